"""The bake-off: which rows are on the front, and what is written."""

import shutil

import numpy as np
import pytest

from experiments.studies.bake_off import methods, report
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import fingerprint, recipe_file
from jaxpolicy.runs import launch, recipe, saved


def row(method, p50_ms, score, **acting):
    times = {'p50_ms': p50_ms, 'compile_s': 1.0, 'train_s': 60.0, 'num_episodes': 20}
    interval = {'score': score, 'low': score - 0.05, 'high': score + 0.05}
    return {'method': method, **acting, 'evaluations': 1, **interval, **times}


ROWS = [
    row('eps', 10.0, 0.9, sampler='ddpm', num_sample_steps=100),
    row('eps', 2.0, 0.9, sampler='ddim', num_sample_steps=10),
    row('flow', 3.0, 0.95, sampler='euler', num_sample_steps=10),
    row('regression', 0.5, 0.4),
    row('mip', 0.5, 0.6),
]


def test_the_front_is_what_no_other_row_beats():
    names = [(found['method'], found['p50_ms']) for found in report.pareto(ROWS)]
    assert names == [('mip', 0.5), ('eps', 2.0), ('flow', 3.0)]


def test_the_table_has_every_row_and_marks_the_front(tmp_path):
    config = recipe_file.load('configs/detour/diffusion.py')
    report.write(tmp_path, ROWS, config)
    lines = (tmp_path / 'bake_off.md').read_text().splitlines()
    assert '20 episodes' in lines[0] and 'detour' in lines[0]
    table = [line for line in lines if line.startswith('|')][2:]
    assert len(table) == len(ROWS)
    assert [line.split(' | ')[0][2:] for line in table if '**' in line] == ['eps', 'flow', 'mip']
    assert '| eps | ddim 10 | 1 | **0.900 [0.850, 0.950]** | 2.00 | 60 |' in table
    assert (tmp_path / 'bake_off.png').stat().st_size > 10_000


def test_a_row_without_a_sound_episode_is_on_no_front(tmp_path):
    lost = row('drifting', 0.1, float('nan')) | {'broken_episodes': 20}
    rows = methods.Rows(tmp_path)
    rows.all = [lost, ROWS[0] | {'broken_episodes': 2}]
    rows.save()
    again = methods.Rows(tmp_path).all
    assert again[0]['score'] is None  # as it is written
    for found in (rows.all, again):
        report.write(tmp_path, found, recipe_file.load('configs/detour/diffusion.py'))
        text = (tmp_path / 'bake_off.md').read_text()
        assert '| all 20 episodes broke |' in text
        assert '**0.900 [0.850, 0.950], 2 broke**' in text
        assert report.line(found[0]).endswith('all 20 episodes broke')


def test_rows_are_kept_by_their_way_of_acting(tmp_path):
    rows, marks = methods.Rows(tmp_path), ({'weights': 'a'}, {'device': 'cpu'})
    rows.of('eps', {'sampler': 'ddim', 'num_sample_steps': 4}, *marks)['score'] = 0.5
    rows.of('eps', {'sampler': 'ddim', 'num_sample_steps': 10}, *marks)['score'] = 0.7
    rows.save()
    again = methods.Rows(tmp_path)
    assert again.of('eps', {'sampler': 'ddim', 'num_sample_steps': 10}, *marks)['score'] == 0.7
    assert 'score' not in again.of('eps', {'sampler': 'heun', 'num_sample_steps': 4}, *marks)
    assert len(again.all) == 3
    assert methods.Rows(tmp_path / 'other').all == []


def test_a_row_counts_only_for_what_it_was_made_with(tmp_path):
    acting, scored, timed = {'num_sample_steps': 1}, {'weights': 'a', 'code': 'b'}, {'device': 'x'}
    rows = methods.Rows(tmp_path)
    row = rows.of('mip', acting, scored, timed)
    row.update(score=0.5, p50_ms=1.0)
    assert rows.of('mip', acting, scored, timed)['p50_ms'] == 1.0
    slower = rows.of('mip', acting, scored, {'device': 'y'})
    assert slower['score'] == 0.5 and 'p50_ms' not in slower
    other = rows.of('mip', acting, scored | {'code': 'c'}, {'device': 'y'})
    assert 'score' not in other and len(rows.all) == 1
    rows.all = [{'method': 'mip', **acting, 'score': 0.9}]  # of an older version, which says less
    assert 'score' not in rows.of('mip', acting, scored, timed)


def trained(directory, demos):
    """A run of two layers on the line's shapes."""
    config = recipe.offline('mip', 'tests.commands.line', 'episodes', str(demos))
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.loop.batch_size, config.loop.num_epochs, config.eval.every = 16, 1, 0
    assert launch.train(config, directory, launch.Options(num_devices=1))
    return saved.open_run(directory, 'latest')


def test_all_that_defines_a_number_is_in_its_marks(tmp_path, line_demos, monkeypatch):
    opened = trained(tmp_path / 'a', line_demos)
    marks = methods.marks(opened, 8, 100)[0]
    assert marks == methods.marks(opened, 8, 100)[0]
    assert marks['num_episodes'] == 8 and marks['first_seed'] == 100
    ema = opened.train.replace(stats={'x': np.zeros(1)})
    assert methods.marks(opened._replace(train=ema), 8, 100)[0]['weights'] != marks['weights']
    acting = saved.open_run(tmp_path / 'a', 'latest', ['execute.delay=1'], ['execute'])
    assert methods.marks(acting, 8, 100)[0]['config'] != marks['config']
    monkeypatch.setattr(fingerprint, '_PACKAGES', ('jax',))
    assert methods.marks(opened, 8, 100)[0]['code'] != marks['code']


def test_a_run_tells_if_its_demonstrations_are_others_now(tmp_path, line_demos):
    """The run is that of the test above, whose programs are compiled."""
    path = tmp_path / 'demos.npz'
    shutil.copy(line_demos, path)
    opened = trained(tmp_path / 'a', path)
    np.testing.assert_array_equal(saved.learnt_from(opened).obs, episodes_lib.load(path).obs)
    found = episodes_lib.load(path)
    episodes_lib.save(path, found._replace(obs=-found.obs))
    with pytest.raises(ValueError, match='data.path: expected the data that this run began with'):
        saved.learnt_from(opened)
