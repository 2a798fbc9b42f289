"""The page holds everything that was given, escaped, and asks the network for nothing."""

import base64
import html.parser

import pytest

from jaxpolicy.io import report


class _Parser(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ''

    def handle_starttag(self, tag, attrs):
        if tag not in ('meta', 'img'):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'film')
    table = report.Table(['agent', 'success'], [['bc <1>', 0.51234], ['ppo', None]], 'n = 1,000')
    sections = [
        report.Section('Results', [report.Text('One & two.\n\nThree.'), table]),
        report.Section(
            'Pictures',
            [report.Figure(b'\x89PNG', 'paths'), report.Videos([('bc', tmp_path / 'a.mp4')])],
        ),
    ]
    report.write(tmp_path / 'out' / 'report.html', 'A <title>', sections)
    page = (tmp_path / 'out' / 'report.html').read_text()
    parser = _Parser()
    parser.feed(page)
    assert parser.open == []
    assert parser.sources == [
        'data:image/png;base64,' + base64.b64encode(b'\x89PNG').decode(),
        'data:video/mp4;base64,' + base64.b64encode(b'film').decode(),
    ]
    for text in ('A <title>', 'One & two.', 'Three.', 'bc <1>', '0.512', '–', 'n = 1,000', 'paths'):
        assert text in parser.text
    assert '<td class="number">0.512</td>' in page and '<td>bc &lt;1&gt;</td>' in page
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['report.html']


def test_numbers():
    cells = {1234567: '1,234,567', 0.012345: '0.0123', 98765.4: '98,765', 0.0: '0', None: '–'}
    assert {cell: report.format_cell(cell) for cell in cells} == cells
    assert report.format_cell(12.3456, digits=4) == '12.35'


def test_a_ragged_table_is_refused(tmp_path):
    section = report.Section('x', [report.Table(['a', 'b'], [[1]])])
    with pytest.raises(ValueError, match='expected 2 cells'):
        report.write(tmp_path / 'r.html', 'x', [section])
