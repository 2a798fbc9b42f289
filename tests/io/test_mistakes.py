"""How commands end: mistakes in one line, bugs with their traceback; paths are tried out before."""

import json
import os
from pathlib import Path

import pytest
from absl import flags as absl_flags

from jaxpolicy.io import mistakes, paths


def _raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError('expected an error')


def _on_purpose():
    raise ValueError('--out: expected a file, found a folder')


def _unpack():
    _, _ = [1, 2, 3]


@pytest.mark.parametrize(
    ('call', 'expected'),
    [
        (_on_purpose, True),
        (lambda: Path('/nowhere/at/all').read_text(), True),
        (lambda: __import__('not_there_at_all'), True),
        (lambda: int('x'), False),  # nobody said what is expected
        (lambda: json.loads('{'), False),  # of a library, which does not know the flag
        (_unpack, False),
        (lambda: {}['key'], False),
        (lambda: 'a' + 1, False),
        (lambda: (2.0**1023) * 2 ** (10**4), False),  # no flag has a large number
    ],
)
def test_what_is_a_mistake_and_what_a_bug(call, expected):
    assert mistakes.is_mistake(_raised(call)) == expected


def test_a_mistake_ends_in_one_line_and_a_bug_passes(capsys):
    with pytest.raises(SystemExit) as ended, mistakes.in_one_line():
        _on_purpose()
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert text.endswith('error: --out: expected a file, found a folder\n')
    assert text.count('\n') == 1
    with pytest.raises(ValueError, match='invalid literal'), mistakes.in_one_line():
        int('x')


def test_a_path_names_what_was_expected_and_what_there_is(tmp_path):
    (tmp_path / 'demos.npz').write_text('x')
    given = paths.Parser(folder=False, given=True, written=False)
    given.check('demos', str(tmp_path / 'demos.npz'))
    for path, message in [
        (
            tmp_path / 'demo.npz',
            r'--demos: expected a file, found none .* did you mean .*demos',
        ),
        (tmp_path, '--demos: expected a file, found a folder'),
        (tmp_path / 'a' / 'b', f'the nearest folder is {tmp_path}'),
        ('', "--demos: expected a file, found ''"),
    ]:
        with pytest.raises(ValueError, match=message):
            given.check('demos', str(path))
    folder = paths.Parser(folder=True, given=True, written=False)
    with pytest.raises(ValueError, match='--workdir: expected a folder, found a file'):
        folder.check('workdir', str(tmp_path / 'demos.npz'))


def test_outputs_are_tried_out_and_nothing_is_left_behind(tmp_path):
    (tmp_path / 'file').write_text('x')
    out = paths.Parser(folder=False, given=False, written=True, suffixes=('.png',))
    out.check('out', str(tmp_path / 'new' / 'x.png'))
    assert os.listdir(tmp_path) == ['file']
    for path, message in [
        (tmp_path / 'file' / 'x.png', '--out: expected a place to write to, .*: not a directory'),
        (tmp_path / 'x.foo', '--out: expected a name that ends with .png'),
        ('/dev/full', '--out: expected a file, found a device: /dev/full'),
    ]:
        with pytest.raises(ValueError, match=message):
            out.check('out', str(path))


def test_a_home_is_expanded_in_every_path(monkeypatch):
    monkeypatch.setenv('HOME', '/home/student')
    one = paths.Parser(True, True, False)
    assert one.parse('~/runs') == '/home/student/runs'
    assert paths.ListParser(one).parse('~/a,b~') == ['/home/student/a', 'b~']


def test_a_result_that_cannot_be_written_is_kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(paths.tempfile, 'mkdtemp', lambda prefix: str(tmp_path))
    (tmp_path / 'file').write_text('x')
    with pytest.raises(ValueError, match=f'the result is in {tmp_path}/x.json instead'):
        paths.write_json(tmp_path / 'file' / 'x.json', {'figure': 1})
    assert json.loads((tmp_path / 'x.json').read_text()) == {'figure': 1}


def test_rows_that_are_there(tmp_path):
    assert paths.read_rows(tmp_path / 'rows.json') == []
    for text, message in [('x', 'not JSON'), ('{}', 'expected a list of objects')]:
        (tmp_path / 'rows.json').write_text(text)
        with pytest.raises(ValueError, match=message):
            paths.read_rows(tmp_path / 'rows.json')


def test_an_error_of_the_system_names_its_path():
    assert not absl_flags.FLAGS.is_parsed()
    error = _raised(lambda: Path('/nowhere/at/all').read_text())
    expected = 'expected a path that can be used, found /nowhere/at/all: no such file or directory'
    assert mistakes.describe(error) == expected
