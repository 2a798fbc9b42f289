import re
import xml.etree.ElementTree as ElementTree

import pytest

from jaxpolicy.io import charts


def lines(count):
    return [
        charts.Series(f'a <{i}>', i, [0, 10, 20], [0.0, 1.0, 2.0 + i], [-1.0, 0.0, 1.0], [3.0] * 3)
        for i in range(count)
    ]


def test_ticks_are_round_and_inside():
    assert charts.ticks(0.0, 1.0, 5) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert charts.ticks(-3e5, 1.1e6, 5) == [0, 5e5, 1e6]
    assert [charts.number(x) for x in (0, 0.25, 1500, 2e6)] == ['0', '0.25', '1.5k', '2M']


def test_lines_name_axes_and_series_and_are_well_formed():
    svg = charts.lines(lines(2), 'env steps', 'return & more')
    root = ElementTree.fromstring(svg)
    texts = {node.text for node in root.iter('text')}
    assert {'env steps', 'return & more', 'a <0>', 'a <1>'} <= texts


def test_series_differ_without_colour():
    """Each has its own pair of dash and marker."""
    svg = charts.lines(lines(charts.MAX_SERIES), 'x', 'y')
    ElementTree.fromstring(svg)
    strokes = re.findall(
        r'<path d="M6 \S+h36" fill="none" stroke="(#\w+)"[^/]*?(dasharray="[^"]*")?/>', svg
    )
    assert len(strokes) == len(set(strokes)) == charts.MAX_SERIES
    assert len({colour for colour, _ in strokes}) == charts.MAX_SERIES
    assert len({dash for _, dash in strokes}) == charts.MAX_SERIES


def test_markers_stand_at_their_values():
    rows = [charts.Interval('low', 0, 0.0, -1.0, 1.0), charts.Interval('high', 1, 10.0)]
    svg = charts.intervals(rows, 'score', line_at=0.0)
    ElementTree.fromstring(svg)
    low, high = (float(x) for x in re.findall(r'translate\((\S+) \S+\)', svg))
    left, right = (float(x) for x in re.search(r'd="M(\S+) 34H(\S+)"', svg).groups())
    assert left < low < right < high
    assert right - low == pytest.approx((high - low) / 10, abs=0.2)


def test_equal_values_have_an_axis():
    flat = charts.Series('a', 0, [5, 5], [1.0, 1.0])
    assert 'nan' not in charts.lines([flat], 'x', 'y')
    assert 'nan' not in charts.intervals([charts.Interval('a', 0, 0.0)], 'x')
