"""Metric rows: appended, taken back, drawn."""

import contextlib
import csv
import json
import math
import struct
import sys

import pytest

from jaxpolicy.io import metrics, trackers


def _csv(workdir):
    with open(workdir / metrics.CSV, newline='') as file:
        return list(csv.DictReader(file))


def _write(writer, index, **row):
    row = {f'train/{k}': v for k, v in row.items()}
    writer.write(row, index, env_steps=100 * index, updates=10 * index)


def test_rows_come_back_and_columns_may_grow(tmp_path):
    writer = metrics.open_writer(tmp_path)
    _write(writer, 1, loss=0.5)
    _write(writer, 2, loss=math.nan, success=1)
    _write(writer, 3, success=0)
    writer.close()
    rows = metrics.read(tmp_path)
    assert rows[0] == {'round': 1, 'env_steps': 100, 'updates': 10, 'train/loss': 0.5}
    assert math.isnan(rows[1]['train/loss']) and rows[1]['train/success'] == 1.0
    table = _csv(tmp_path)
    assert [row['train/loss'] for row in table] == ['0.5', 'nan', '']
    assert [row['train/success'] for row in table] == ['', '1.0', '0.0']
    assert [row['env_steps'] for row in table] == ['100', '200', '300']


def test_resume_drops_the_rows_after_the_checkpoint(tmp_path):
    """As after a SIGKILL: two rows too many, and the last line half-written."""
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    writer = metrics.open_writer(straight)
    for index in range(5):
        _write(writer, index, loss=1 / 3 + index)
    writer.close()

    writer = metrics.open_writer(killed)
    for index in range(4):
        _write(writer, index, loss=1 / 3 + index if index < 2 else -1.0)
    with open(killed / metrics.JSONL, 'a') as file:
        file.write('{"round": 4, "env_st')
    with open(killed / metrics.CSV, 'a') as file:
        file.write('4,4')
    assert len(metrics.read(killed)) == 4, 'a half-written row is not a row'
    writer = metrics.open_writer(killed)
    assert writer.num_rows == 4
    writer.truncate(2)
    for index in range(2, 5):
        _write(writer, index, loss=1 / 3 + index)
    assert writer.num_rows == 5
    writer.close()
    for name in (metrics.JSONL, metrics.CSV):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()


def _scalars(workdir):
    """{(tag, step): value} of all event files."""
    proto = pytest.importorskip('tensorboardX.proto.event_pb2', reason='no tensorboardX')
    found = {}
    for path in (workdir / trackers.TENSORBOARD).iterdir():
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack('<Q', data[:8])
            event = proto.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_events_follow_the_rows(tmp_path):
    writer = metrics.open_writer(tmp_path)
    for index in range(1, 4):
        _write(writer, index, loss=index)
    writer.truncate(1)
    _write(writer, 2, loss=7)
    writer.close()
    writer = metrics.open_writer(tmp_path)
    _write(writer, 3, loss=8)
    writer.close()
    assert _scalars(tmp_path) == {
        ('train/loss', 100): 1.0,
        ('train/loss', 200): 7.0,
        ('train/loss', 300): 8.0,
    }


def test_without_tensorboard_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)  # importing it raises ImportError
    writer = metrics.open_writer(tmp_path)
    _write(writer, 1, loss=1)
    writer.close()
    assert [r.message for r in caplog.records] == [
        'tensorboardX is not installed: no TensorBoard events are written'
    ]
    assert len(metrics.read(tmp_path)) == 1


def test_the_last_row_says_how_far_a_run_came(tmp_path):
    writer = metrics.open_writer(tmp_path, tensorboard=False)
    assert writer.last_row() == {'round': 0, 'env_steps': 0, 'updates': 0}
    _write(writer, 1, loss=1)
    _write(writer, 2, loss=2)
    assert writer.last_row()['updates'] == 20 and writer.last_row()['env_steps'] == 200
    writer.truncate(1)
    assert writer.last_row()['updates'] == 10
    writer.close()
    assert metrics.NullWriter().last_row() == {'round': 0, 'env_steps': 0, 'updates': 0}


def test_rows_of_older_versions_are_read_with_their_new_names(tmp_path):
    (tmp_path / metrics.JSONL).write_text('{"epoch": 3, "env_steps": 0, "updates": 7, "x": 1.0}\n')
    assert metrics.read(tmp_path) == [{'round': 3, 'env_steps': 0, 'updates': 7, 'x': 1.0}]
    writer = metrics.open_writer(tmp_path, tensorboard=False)
    _write(writer, 4)
    writer.close()
    assert [row['round'] for row in metrics.read(tmp_path)] == [3, 4]
    assert [row['round'] for row in _csv(tmp_path)] == ['3', '4']


def test_errors(tmp_path):
    assert metrics.read(tmp_path) == []
    writer = metrics.open_writer(tmp_path, tensorboard=False)
    _write(writer, 1, loss=1)
    with pytest.raises(ValueError, match='expected 2 rows, found 1'):
        writer.truncate(2)
    with pytest.raises(ValueError, match=r"nothing to draw under \('test/',\)"):
        metrics.plot(tmp_path, prefixes=('test/',))
    writer.close()
    (tmp_path / metrics.JSONL).write_text('{"epoch"\n{}\n')
    with pytest.raises(ValueError, match='line 1: not JSON'):
        metrics.read(tmp_path)
    (tmp_path / metrics.JSONL).write_text('{}\n')
    with pytest.raises(ValueError, match='line 1: expected'):
        metrics.read(tmp_path)


def test_plot(tmp_path):
    writer = metrics.open_writer(tmp_path, tensorboard=False)
    for index in range(3):
        writer.write({'train/loss': index, 'eval/success': 1, 'time/s': 2}, index, 0, index)
    path = metrics.plot(tmp_path)
    assert path.read_bytes().startswith(b'\x89PNG') and path.name == metrics.CURVES
    assert not list(tmp_path.glob('.*.png'))


def test_numbers_that_are_none_are_null_in_the_file_and_nan_for_readers(tmp_path):
    with contextlib.closing(metrics.open_writer(tmp_path, tensorboard=False)) as writer:
        writer.write({'eval/a': float('nan'), 'eval/b': float('inf')}, 1, 2, 3)
    path = tmp_path / metrics.JSONL
    assert json.loads(path.read_text())['eval/a'] is None
    assert 'NaN' not in path.read_text() and 'Infinity' not in path.read_text()
    (row,) = metrics.read(tmp_path)
    assert math.isnan(row['eval/a']) and math.isnan(row['eval/b'])
    old = '{"round": 2, "env_steps": 4, "updates": 6, "eval/a": NaN}'  # as older versions wrote it
    path.write_text(path.read_text() + old + '\n')
    assert math.isnan(metrics.read(tmp_path)[1]['eval/a'])
    metrics.plot(tmp_path)
    with contextlib.closing(metrics.open_writer(tmp_path, tensorboard=False)):
        assert 'NaN' not in path.read_text()  # a run that goes on mends it
