"""Draw charts as SVG for a page: text and axes have the colour of the text around them."""

import io
import re
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = tuple[Sequence[float], Sequence[float]]

_INK = "#010203"  # becomes currentColor
_COLORS = ("#3b82f6", "#f97316", "#10b981", "#ec4899", "#a78bfa", "#eab308", "#06b6d4", "#ef4444")


def line_chart(
    chart_id: str,
    lines: dict[str, Line],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    markers: bool = False,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """Draw lines as an ``svg`` element; without matplotlib return a note that says so.

    Args:
        chart_id: begins all ids in the chart; no other chart of the page has it.
        lines: xs and ys of each line, by the line's name.
        title: read out to those who cannot see the chart.
        x, y: names of the axes.
        log_x: scale the x axis logarithmically, with a tick at each x of the first line.
        markers: mark the points of the lines.
        limits: of the y axis.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return Markup('<p class="note">Charts need matplotlib: pip install matplotlib</p>')
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    marker = "o" if markers else None
    for color, (name, (xs, ys)) in zip(cycle(_COLORS), lines.items(), strict=False):
        axes.plot(xs, ys, label=name, color=color, linewidth=1.6, marker=marker, markersize=4)
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
    return _svg(figure, chart_id, title)


def _svg(figure: "Figure", chart_id: str, title: str) -> Markup:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart_id}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    # ids are those of this chart alone
    text = re.sub(r'id="([^"]+)"', rf'id="{chart_id}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{chart_id}-", text)
    start = f'<svg role="img" aria-label="{escape(title)}" class="chart" '
    return Markup(text.replace("<svg ", start, 1))
