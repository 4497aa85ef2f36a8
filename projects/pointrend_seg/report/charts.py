"""Charts as SVG that stands in a page: text and axes have the colour of the text around them."""

import io
import re
from collections.abc import Sequence

_INK = "#010203"  # becomes currentColor
_COLORS = ("#3b82f6", "#f97316", "#10b981", "#ec4899", "#a78bfa", "#eab308", "#06b6d4", "#ef4444")


def line_chart(
    name: str,
    lines: dict[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    markers: bool = False,
    limits: tuple[float, float] | None = None,
) -> str:
    """Lines (xs, ys) by their names, as an `svg` element; without matplotlib a sentence.

    Args:
        name: of the chart, for ids that no other chart of the page has.
        title: read out for who does not see it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return '<p class="note">Charts need matplotlib: pip install matplotlib</p>'
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for color, (label, (xs, ys)) in zip(_cycled(len(lines)), lines.items(), strict=True):
        axes.plot(xs, ys, label=label, color=color, linewidth=1.6, marker="o" if markers else None,
                  markersize=4)  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
    if log_x:
        axes.set_xscale("log", base=2)
        xs = next(iter(lines.values()))[0]
        axes.set_xticks(xs, [f"{value:g}" for value in xs])
    if limits:
        axes.set_ylim(*limits)
    axes.grid(alpha=0.25, color=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.tick_params(colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
    return _svg(figure, name, title)


def _cycled(count: int) -> list[str]:
    return [_COLORS[k % len(_COLORS)] for k in range(count)]


def _svg(figure, name: str, title: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    # ids are those of this chart alone
    text = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" class="chart" ', 1)
