import contextlib

import pytest

from experiments import compare
from jaxpolicy.io import metrics, recipe_file, workdir
from jaxpolicy.runs import upgrade


@pytest.fixture
def directory(tmp_path):
    """A run of two seeds with two evaluations."""
    config = recipe_file.load('configs/smoke/ppo.py')
    workdir.prepare(tmp_path, config, seed=0, num_seeds=2, upgrade=upgrade.upgrade)
    with contextlib.closing(metrics.open_writer(tmp_path)) as writer:
        for index in (1, 2, 3):
            row = {'train/loss': 1.0 / index, 'train/queries': 7.0 * index}
            if index > 1:
                score = {'low': index - 1.0, 'high': index + 1.0}
                row |= {'eval/score': float(index)}
                row |= {f'eval/score_{name}': x for name, x in score.items()}
                row |= {f'seed{i}/eval/score': index + 0.5 * i for i in range(2)}
            writer.write(row, index, env_steps=100 * index, updates=10 * index)
    return tmp_path


def test_points_are_the_evaluated_rows(directory):
    label, points = compare.curve(directory, 'eval/score')
    assert label == 'eval/score against env_steps'
    assert points[0] == {'x': 200, 'mean': 2.0, 'low': 1.0, 'high': 3.0, 'seeds': [2.0, 2.5]}
    assert [p['x'] for p in points] == [200, 300]


def test_any_column_may_be_the_horizontal_axis(directory):
    label, points = compare.curve(directory, 'eval/score', 'train/queries')
    assert label == 'eval/score against train/queries'
    assert [p['x'] for p in points] == [14.0, 21.0]
    with pytest.raises(ValueError, match="against: .* has no 'train/asked'"):
        compare.curve(directory, 'eval/score', 'train/asked')


def test_a_picture_is_drawn(directory, tmp_path, capsys):
    out = tmp_path / 'curves.png'
    compare.draw([directory, directory], 'eval/score', out)
    assert out.stat().st_size > 5000
    assert '3 [2, 4] at 300' in capsys.readouterr().out


def test_an_unknown_metric_is_named(directory):
    with pytest.raises(ValueError, match="has no 'eval/other'"):
        compare.curve(directory, 'eval/other')
