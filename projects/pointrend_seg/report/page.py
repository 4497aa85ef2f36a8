"""Render a page that stands alone: HTML with everything in it, for light and dark, wide and narrow.

The template escapes whatever is put into it, control characters included; only charts, which are
`Markup`, stand as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..errors import printable

Cell = str | float | None
Chart = tuple[str, Markup]  # a line above it, or "", and what `charts.line_chart` returned
Panel = tuple[str, str]  # its data URI, and the text for those who cannot see it
Figure = tuple[str, Sequence[Panel]]  # its caption, and what is below

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 37rem)); }
.chart { width: 100%; height: auto; }
figure { margin: 0 0 1.5rem; }
figcaption { margin: .3rem 0; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px; }
.panels img { width: 100%; height: auto; display: block; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; font-size: 13px; }
.note { opacity: .75; }
@media (max-width: 34rem) { body { font-size: 14px; padding: .6rem; } .panels { gap: 2px; } }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
{% if section.title %}
<h2>{{ section.title }}</h2>
{% endif %}
{% if section.table %}
<div class="scroll"><table>
<thead><tr>
{% for cell in section.table.header %}<th scope="col">{{ cell }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in section.table.rows %}
<tr>{% for cell in row %}<td>{{ cell | format_cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% if section.charts %}
<div class="charts">
{% for caption, svg in section.charts %}
<div>{% if caption %}<p>{{ caption }}</p>{% endif %}{{ svg }}</div>
{% endfor %}
</div>
{% endif %}
{% if section.note %}
<p class="note">{{ section.note }}</p>
{% endif %}
{% for caption, panels in section.figures %}
<figure>
<figcaption>{{ caption }}</figcaption>
<div class="panels">
{% for uri, text in panels %}
<img src="{{ uri }}" alt="{{ text }}" loading="lazy">
{% endfor %}
</div>
</figure>
{% endfor %}
{% if section.listing %}
<details><summary>{{ section.listing_name }}</summary><pre>{{ section.listing }}</pre></details>
{% endif %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


@dataclass(frozen=True)
class Table:
    """Column titles, and rows of as many cells; see `format_cell`."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the page. What it has is shown in the order of the attributes.

    Attributes:
        listing: a long text, which is folded below its name.
    """

    title: str = ""
    table: Table | None = None
    charts: Sequence[Chart] = ()
    note: str = ""
    figures: Sequence[Figure] = ()
    listing_name: str = ""
    listing: str = ""


def render_page(title: str, sections: Iterable[Section]) -> str:
    """Return a whole HTML document.

    Example:
        >>> "<h2>Q &amp; A</h2>" in render_page("Title", [Section("Q & A", note="None.")])
        True
    """
    return _template.render(title=title, sections=sections)


def format_cell(cell: Cell) -> str:
    """Return the text of a table cell: fractions with two decimals, None and NaN as a dash."""
    if cell is None or cell != cell:
        return "–"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _shown(value: object) -> object:
    """Escape control characters, such as those that turn the direction of writing around."""
    return printable(value, keep="\n") if type(value) is str else value


_environment = Environment(
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_environment.filters["format_cell"] = format_cell
_template = _environment.from_string(_TEMPLATE)
