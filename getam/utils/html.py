"""HTML pages, so that reports display tables, figures and texts instead of linking to them. A page is one file."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; margin-top: 2rem; }
a { color: #1d5b8f; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid #d9e2ec; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom: 2px solid #829ab1; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.reproduced td { background: #e3f9e5; } tr.differs td { background: #ffeeee; }
pre { background: #f0f4f8; padding: 1rem; overflow-x: auto; font-size: 13px; }
code { background: #f0f4f8; padding: 0 .2em; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #52606d; font-size: 13px; max-width: 75ch; }
figcaption p { margin: .3rem 0; }
nav a { display: block; text-decoration: none; padding: .15rem 0; } nav a.below { padding-left: 1rem; font-size: 13px; }
@media (min-width: 900px) {
  body.navigated { display: grid; grid-template-columns: 13rem minmax(0, 68rem); gap: 2.5rem; }
  nav { position: sticky; top: 1rem; align-self: start; max-height: 95vh; overflow-y: auto; }
}
@media (max-width: 900px) { nav a { display: inline-block; margin-right: 1rem; } nav a.below { display: none; } }
@media (max-width: 600px) { body { margin: 1rem; } th, td { padding: .3rem .4rem; } }
"""


def html_page(title: str, *parts: str, navigation: Iterable[tuple[str, str, bool]] = ()) -> str:
    """A whole page. navigation: of each entry beside it the anchor, the text, and whether it is indented."""
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    links = "".join(
        f"<a href='#{escape(anchor)}'{' class=below' if below else ''}>{escape(text)}</a>"
        for anchor, text, below in navigation
    )
    start = f"<body class='navigated'><nav>{links}</nav><main>" if links else "<body><main>"
    body = f"{start}<h1>{escape(title)}</h1>{''.join(parts)}</main></body>"
    return f"<!doctype html><html lang='en'><head>{head}</head>{body}</html>\n"


def html_heading(level: int, text: str, anchor: str) -> str:
    """A heading that the navigation can name."""
    return f"<h{level} id='{escape(anchor)}'>{escape(text)}</h{level}>"


def html_table(columns: Sequence[str], rows: Sequence[Sequence], classes: Sequence[str] | None = None) -> str:
    """An HTML table: numbers aligned right, None and NaN as a dash. classes: the CSS class of each row."""
    classes = classes or [""] * len(rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr class='{escape(kind)}'>{''.join(map(_cell, row))}</tr>" for kind, row in zip(classes, rows, strict=True)
    )
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def html_figure(path: Path, caption: str) -> str:
    """A picture inside the page, PNG or SVG. caption: HTML; the path of the file stands below it."""
    kind = {".svg": "svg+xml", ".png": "png"}[path.suffix]
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.as_posix())
    return (
        f"<figure><img src='data:image/{kind};base64,{data}' alt='{escape(path.stem)}'>"
        f"<figcaption>{caption}<p>File: <code>{name}</code></p></figcaption></figure>"
    )


def html_details(summary: str, content: str) -> str:
    """Content that opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _cell(value) -> str:
    if value is None or value != value:
        return "<td class='number'>-</td>"
    if isinstance(value, float):
        return f"<td class='number'>{value:g}</td>"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"<td class='number'>{value}</td>"
    return f"<td>{escape(str(value))}</td>"
