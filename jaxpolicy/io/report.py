"""A self-contained HTML page: text, tables, figures and videos in one file that works offline."""

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Text(NamedTuple):
    """Paragraphs, separated by empty lines; plain text, not HTML."""

    text: str


class Points(NamedTuple):
    """A list of sentences; plain text, not HTML."""

    points: Sequence[str]


class Link(NamedTuple):
    """A cell of a table that leads to a file; `address` is relative to the page."""

    text: str
    address: str


Cell = str | int | float | Link | None


class Table(NamedTuple):
    """Rows under column names. Floats show `digits` significant digits, None shows a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ''
    digits: int = 3


class Figure(NamedTuple):
    """A picture."""

    png: bytes
    caption: str = ''


class Chart(NamedTuple):
    """A drawing of `charts`, which is put into the page as it is."""

    svg: str
    caption: str = ''


class Videos(NamedTuple):
    """(caption, path of an mp4) pairs, shown side by side."""

    videos: Sequence[tuple[str, str | Path]]


Part = Text | Points | Table | Figure | Chart | Videos


class Section(NamedTuple):
    """A heading and what stands below it; `folded`, it is opened by a click."""

    title: str
    parts: Sequence[Part]
    folded: bool = False


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --dim: #62676e; --line: #d9dce1; --paper: #fff;
  --band: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --dim: #9aa0a8; --line: #3a3f46;
  --paper: #17191c; --band: #1f2226; } }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
caption { caption-side: bottom; text-align: left; }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2.5rem); }
caption, figcaption { color: var(--dim); font-size: .85rem; padding-top: .4rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
th { white-space: nowrap; } tbody tr:nth-child(even) { background: var(--band); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
a { color: inherit; } summary { cursor: pointer; }
summary h2 { display: inline-block; margin-bottom: .5rem; }
figure { margin: 1rem 0; max-width: 100%; } figure:has(> svg) { display: inline-block;
  width: min(100%, 36rem); margin-right: 1rem; vertical-align: top; }
figure > svg { display: block; width: 100%; border-radius: 4px; }
svg text { font: 11px system-ui, sans-serif; fill: #1c1e21; paint-order: stroke;
  stroke: #fff; stroke-width: 3px; } svg .grid { stroke: #e3e5e9; }
svg .axis { stroke: #62676e; fill: none; }
img, video { max-width: 100%; border-radius: 4px; background: #fff; }
.videos { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
@media (max-width: 30rem) { body { padding: 1rem .75rem 3rem; } th, td { padding: .3rem .5rem; } }
@media print { :root { color-scheme: light; --ink: #000; --dim: #444; --line: #bbb; --paper: #fff;
    --band: #f5f6f8; } body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th { white-space: normal; }
  th, td { padding: .2rem .3rem; } td:first-child { overflow-wrap: break-word; }
  figure, tr, li { break-inside: avoid; } h2 { break-after: avoid; }
  figure:has(> svg) { width: 8.6cm; margin-right: .3cm; } }
"""


def write(path: str | Path, title: str, sections: Sequence[Section]) -> None:
    """Writes the page, atomically.

    Args:
      path: of the HTML file; its folder is created if missing.
      title: of the page.
      sections: in order.

    Raises:
      ValueError: a table's row is not as long as its columns.
    """
    body = [f'<h1>{html.escape(title)}</h1>']
    for section in sections:
        tag, end = ('<details><summary>', '</summary>') if section.folded else ('<section>', '')
        body.append(f'{tag}<h2>{html.escape(section.title)}</h2>{end}')
        body += [_render(part) for part in section.parts]
        body.append('</details>' if section.folded else '</section>')
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n'
        + '\n'.join(body)
        + '\n</body></html>\n'
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(page, encoding='utf-8')
    os.replace(temporary, path)


def _render(part: Part) -> str:
    match part:
        case Text(text):
            paragraphs = [p.strip() for p in text.split('\n\n') if p.strip()]
            return '\n'.join(f'<p>{html.escape(p)}</p>' for p in paragraphs)
        case Points(points):
            return f'<ul>{"".join(f"<li>{html.escape(point)}</li>" for point in points)}</ul>'
        case Table():
            return _table(part)
        case Chart(svg, caption):
            return _figure(svg, caption)
        case Figure(png, caption):
            source = f'data:image/png;base64,{_base64(png)}'
            return _figure(f'<img src="{source}" alt="{html.escape(caption)}">', caption)
        case Videos(videos):
            return f'<div class="videos">{"".join(_video(*video) for video in videos)}</div>'


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f'table: expected {len(table.columns)} cells {table.columns}, got {row}'
            )
    # A column is numeric where every cell that is there is a number.
    numeric = [
        all(isinstance(row[i], int | float | None) for row in table.rows)
        for i in range(len(table.columns))
    ]
    classes = [' class="number"' if is_number else '' for is_number in numeric]
    head = ''.join(
        f'<th{c}>{html.escape(name)}</th>' for c, name in zip(classes, table.columns, strict=True)
    )
    rows = ''.join(
        '<tr>'
        + ''.join(
            f'<td{c}>{_cell(cell, table.digits)}</td>' for c, cell in zip(classes, row, strict=True)
        )
        + '</tr>\n'
        for row in table.rows
    )
    caption = (
        f'<caption><span>{html.escape(table.caption)}</span></caption>' if table.caption else ''
    )
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f'<tbody>{rows}</tbody></table></div>'
    )


def _cell(cell: Cell, digits: int) -> str:
    if isinstance(cell, Link):
        return f'<a href="{html.escape(cell.address)}">{html.escape(cell.text)}</a>'
    return html.escape(format_cell(cell, digits))


def format_cell(cell: str | int | float | None, digits: int = 3) -> str:
    """What a table shows: 1234567 as 1,234,567, 0.012345 as 0.0123, None as a dash."""
    if cell is None:
        return '–'
    if isinstance(cell, str | bool):
        return str(cell)
    if isinstance(cell, int):
        return f'{cell:,}'
    if abs(cell) >= 10**digits and abs(cell) < 1e9:
        return f'{cell:,.0f}'
    return f'{cell:.{digits}g}'


def _figure(content: str, caption: str) -> str:
    return f'<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>'


def _video(caption: str, path: str | Path) -> str:
    source = f'data:video/mp4;base64,{_base64(Path(path).read_bytes())}'
    return _figure(f'<video controls loop muted playsinline src="{source}"></video>', caption)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')
