"""HTML pages, so that the report displays tables and texts instead of linking to them."""

from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 2rem; }
h1 { font-size: 1.2rem; } h2 { font-size: 1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid #d9e2ec; text-align: left; }
th { font-weight: 600; border-bottom: 2px solid #829ab1; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.reproduced td { background: #e3f9e5; } tr.differs td { background: #ffeeee; }
pre { background: #f0f4f8; padding: 1rem; overflow-x: auto; font-size: 13px; }
"""


def html_page(title: str, *parts: str) -> str:
    """A whole page."""
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html><head>{head}</head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"


def html_table(columns: list[str], rows: list[list], classes: list[str] | None = None) -> str:
    """An HTML table: numbers aligned right, None and NaN as a dash. classes: the CSS class of each row."""
    classes = classes or [""] * len(rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr class='{escape(kind)}'>{''.join(map(_cell, row))}</tr>" for kind, row in zip(classes, rows, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value) -> str:
    if value is None or value != value:
        return "<td>-</td>"
    if isinstance(value, float):
        return f"<td class='number'>{value:g}</td>"
    return f"<td>{escape(str(value))}</td>"
