"""Charts as inline SVG, for pages that work offline, on a phone, in grey and on paper.

Each series has a colour of Okabe and Ito's palette, which colour-blind readers tell apart, and a
dash and a marker, which are told apart in grey. The paper of a chart is always white.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_SERIES = 8  # as many as can be told apart
_COLOURS = ('#000000', '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#777777')
_DASHES = ('', '7 3', '2 3', '9 3 2 3', '12 4', '4 2', '1 2', '9 3 2 3 2 3')
# Around (0, 0): disc, square, triangle, diamond, and the same hollow.
_SHAPES = (
    'M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z',
    'M-3-3h6v6h-6z',
    'M0-4l4 7h-8z',
    'M0-4.5l4 4.5l-4 4.5l-4-4.5z',
)
_WIDTH, _LEFT, _RIGHT, _TOP = 400, 54, 18, 10
_PLOT, _LINE = 210, 17  # heights: of the plot, of a line of the legend
_CHARACTERS = 52  # that fit into a line of the legend


class Series(NamedTuple):
    """A line: `style` (0 to 7) is its colour, dash and marker, the same in every chart."""

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Interval(NamedTuple):
    """A marker with whiskers, and the text of its row."""

    name: str
    style: int
    value: float
    low: float | None = None
    high: float | None = None


def lines(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """Lines with bands, and a legend below them; SVG text.

    Args:
      x_ticks: (place, text) on the horizontal axis; None: round numbers.
    """
    xs = [x for s in series for x in s.x]
    ys = [y for s in series for part in (s.y, s.low or (), s.high or ()) for y in part]
    x_low, x_high = _range(xs, 0.06 if x_ticks else 0.0)
    y_low, y_high = _range(ys, 0.04)
    bottom = _TOP + _PLOT

    def px(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return bottom - (y - y_low) / (y_high - y_low) * _PLOT

    parts = _grid_y(y_low, y_high, py, y_label)
    x_ticks = x_ticks or [(x, number(x)) for x in ticks(x_low, x_high, 5)]
    for x, text in x_ticks:
        parts.append(f'<path d="M{px(x):.1f} {bottom}v4" class="axis"/>')
        parts.append(_text(px(x), bottom + 16, text, 'middle'))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 33, x_label, 'middle'))
    for s in series:
        colour = _COLOURS[s.style % MAX_SERIES]
        points = [(px(x), py(y)) for x, y in zip(s.x, s.y, strict=True)]
        if s.low and s.high:
            edge = list(zip(s.x, s.low, strict=True)) + list(zip(s.x, s.high, strict=True))[::-1]
            band = _path([(px(x), py(y)) for x, y in edge])
            parts.append(f'<path d="{band}z" fill="{colour}" opacity=".12"/>')
        parts.append(f'<path d="{_path(points)}" {_stroke(s.style)}/>')
        step = max(1, len(points) // 6)
        parts += [_marker(x, y, s.style) for x, y in points[s.style % step :: step]]
    top = bottom + 50
    parts += _legend(series, top)
    alt = f'{y_label} against {x_label}: {", ".join(s.name for s in series)}'
    return _svg(parts, top + _LINE * len(series), alt)


def intervals(rows: Sequence[Interval], x_label: str, line_at: float | None = None) -> str:
    """A row for each value, with its name and number above its marker and whiskers; SVG text.

    Args:
      line_at: where a vertical line is drawn, such as at no difference.
    """
    ends = [x for r in rows for x in (r.value, r.low, r.high, line_at) if x is not None]
    low, high = _range(ends, 0.05)
    row_height, left = 34, 14
    bottom = _TOP + row_height * len(rows)

    def px(x: float) -> float:
        return left + (x - low) / (high - low) * (_WIDTH - left - _RIGHT)

    parts = []
    for x in ticks(low, high, 5):
        parts.append(f'<path d="M{px(x):.1f} {_TOP}V{bottom}" class="grid"/>')
        parts.append(_text(px(x), bottom + 14, number(x), 'middle'))
    if line_at is not None:
        parts.append(
            f'<path d="M{px(line_at):.1f} {_TOP}V{bottom}" class="axis" stroke-width="2"/>'
        )
    for index, r in enumerate(rows):
        y = _TOP + row_height * index
        parts.append(_text(left, y + 13, _short(r.name), 'start'))
        parts.append(_text(_WIDTH - _RIGHT, y + 13, f'{r.value:.3g}', 'end'))
        if r.low is not None and r.high is not None:
            ends = f'M{px(r.low):.1f} {y + 24}H{px(r.high):.1f}'
            parts.append(f'<path d="{ends}" {_stroke(r.style, solid=True)}/>')
        parts.append(_marker(px(r.value), y + 24, r.style))
    parts.append(_text(_WIDTH / 2, bottom + 31, x_label, 'middle'))
    return _svg(parts, bottom + 38, f'{x_label}: {", ".join(r.name for r in rows)}')


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(x: float) -> str:
    """A number on an axis: 1500000 as 1.5M, 0.25 as 0.25."""
    for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if abs(x) >= size:
            return f'{x / size:.4g}{letter}'
    return f'{x:.3g}' if abs(x) > 1e-12 else '0'


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    width = (high - low) or abs(high) or 1.0
    if high == low:
        return low - width / 2, high + width / 2
    return low - margin * width, high + margin * width


def _grid_y(low: float, high: float, py, label: str) -> list[str]:
    parts = []
    for y in ticks(low, high, 5):
        parts.append(f'<path d="M{_LEFT} {py(y):.1f}H{_WIDTH - _RIGHT}" class="grid"/>')
        parts.append(_text(_LEFT - 5, py(y) + 4, number(y), 'end'))
    middle = _TOP + _PLOT / 2
    parts.append(f'<path d="M{_LEFT} {_TOP}V{_TOP + _PLOT}H{_WIDTH - _RIGHT}" class="axis"/>')
    parts.append(
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
        f'{html.escape(label)}</text>'
    )
    return parts


def _legend(series: Sequence[Series], top: float) -> list[str]:
    parts = []
    for index, s in enumerate(series):
        y = top + _LINE * index
        parts.append(f'<path d="M6 {y}h36" {_stroke(s.style)}/>{_marker(24, y, s.style)}')
        parts.append(_text(50, y + 4, _short(s.name), 'start'))
    return parts


def _short(name: str) -> str:
    return name if len(name) <= _CHARACTERS else f'{name[: _CHARACTERS - 1]}…'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return 'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points)


def _stroke(style: int, solid: bool = False) -> str:
    colour, dash = _COLOURS[style % MAX_SERIES], '' if solid else _DASHES[style % MAX_SERIES]
    dashes = f' stroke-dasharray="{dash}"' if dash else ''
    return f'fill="none" stroke="{colour}" stroke-width="1.8"{dashes}'


def _marker(x: float, y: float, style: int) -> str:
    colour = _COLOURS[style % MAX_SERIES]
    fill = '#fff' if style % MAX_SERIES >= len(_SHAPES) else colour
    shape = _SHAPES[style % len(_SHAPES)]
    return (
        f'<path transform="translate({x:.1f} {y:.1f})" d="{shape}" fill="{fill}" '
        f'stroke="{colour}" stroke-width="1.2"/>'
    )


def _svg(parts: Sequence[str], height: float, alt: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{html.escape(alt)}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )
