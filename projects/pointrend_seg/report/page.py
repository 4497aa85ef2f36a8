"""A page that stands alone: HTML with everything in it, for light and dark, wide and narrow."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
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
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Numbers have two digits behind the point; None and NaN are a dash."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(number(cell))}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n'
        "</table></div>"
    )


def number(cell) -> str:
    if cell is None or cell != cell:
        return "–"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def charts(*svgs: str) -> str:
    return '<div class="charts">' + "\n".join(f"<div>{svg}</div>" for svg in svgs) + "</div>"


def gallery(caption: str, pictures: Sequence[tuple[str, str]]) -> str:
    """Pictures (data URI, what is to be seen) below one caption."""
    images = "".join(
        f'<img src="{uri}" alt="{escape(text, quote=True)}" loading="lazy">'
        for uri, text in pictures
    )
    return (
        f"<figure>\n<figcaption>{escape(caption)}</figcaption>\n"
        f'<div class="panels">{images}</div>\n</figure>'
    )


def folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
