"""A tiny sweep that is really trained, and what the command is given."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.io import metrics, recipe_file, settings, workdir
from jaxpolicy.runs import launch
from jaxpolicy.sweeps import (
    acting_plan,
    building,
    driver,
    engine,
    plan,
    report_files,
    result,
)
from jaxpolicy.sweeps.definition import Sweep
from tests import fork

ROOT = Path(__file__).resolve().parents[2]
# settings of equal programs, which are compiled once
SWEEP = Sweep(('configs/smoke/ppo.py',), grid='checkpoint.keep_last=1,2', num_seeds=2)


class Never:
    received = False


def in_process(started):
    """An engine that trains a run when it is started, as the command `train` does, or evaluates."""

    def start(job, slot):
        if job.arguments[0] == 'evaluate':
            done = fork.run(*job.arguments)
            started.append(job.workdir.name)
            ended = engine.Ended(done.returncode, None)
            return engine.Handle(lambda: ended, lambda: None, lambda: None)
        flags = [argument[2:].split('=', 1) for argument in job.arguments[1:-2]]
        given = dict(flags)
        config = recipe_file.load(given['config'])
        changes = [(key[7:], text) for key, text in flags if key.startswith('config.')]
        settings.override(config, changes)
        assert job.arguments[-2:] == ['--num_devices=1', '--novideo']
        assert Path(given['workdir']) == job.workdir
        options = launch.Options(int(given['seed']), int(given['num_seeds']), 1)
        assert launch.train(config, job.workdir, options)
        started.append(job.workdir.name)
        return engine.Handle(lambda: engine.Ended(0, None), lambda: None, lambda: None)

    return engine.Engine(1, start)


def run(folder, sweep):
    """The names of the workdirs that were trained."""
    started = []
    variants, builder = plan.variants(sweep), building.Builder()
    planned = plan.plan(variants, sweep, plan.read(folder), builder.build)
    planned = acting_plan.add(planned, variants, sweep.acting, builder, sweep.num_seeds)
    plan.write(folder, planned)
    left = driver.missing(folder, planned)
    driver.run_all(folder, [[run] for run in left], in_process(started), Never, ['--novideo'])
    return started


@pytest.mark.slow
def test_a_sweep_is_trained_once_and_a_larger_one_adds_what_is_new(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = run(tmp_path, SWEEP)
    assert len(first) == 2 and run(tmp_path, SWEEP) == []
    found = result.read(tmp_path)
    assert [x.name for x in found] == ['checkpoint.keep_last=1', 'checkpoint.keep_last=2']
    for one in found:
        rows = metrics.read(tmp_path / one.workdir)
        record = workdir.load_record(tmp_path / one.workdir)
        keep = one.changes['checkpoint.keep_last']
        assert record['config']['checkpoint']['keep_last'] == keep
        assert (record['seed'], record['num_seeds']) == (0, 2) and one.seeds == [0, 1]
        assert one.scores == [rows[-1][f'seed{i}/eval/success_max'] for i in range(2)]
        assert one.budget == rows[-1]['env_steps'] == 128 and one.status == 'finished'
        np.testing.assert_allclose(one.train_s, rows[-1]['time/train_s'])
    third = run(tmp_path, Sweep(SWEEP.recipes, grid='checkpoint.keep_last=2,3', num_seeds=2))
    assert len(third) == 1 and not {*third} & {*first}
    assert len(plan.read(tmp_path)) == len(result.read(tmp_path)) == 3


@pytest.mark.slow
def test_what_a_sweep_has_trained_is_evaluated_with_the_same_weights(tmp_path, monkeypatch, demos):
    """Which metrics are shown changes nothing: the score is that of the last round."""
    monkeypatch.chdir(ROOT)
    overrides = (f'data.path={demos}', 'agent.network=mlp', 'agent.width=8', 'agent.num_blocks=1')
    learns = ('agent.objective=x0', 'agent.warmup_updates=0', 'agent.learning_rate=0.01')
    overrides = (*overrides, *learns, 'eval.score=return')
    acting = 'eval.metrics=length agent.act_weights=ema,raw'
    sweep = Sweep(('configs/smoke/diffusion.py',), overrides, acting=acting, num_seeds=2)
    assert len(run(tmp_path, sweep)) == 3 and run(tmp_path, sweep) == []
    trained, shown, raw = sorted(result.read(tmp_path), key=lambda one: len(one.name))
    assert [one.status for one in (trained, shown, raw)] == ['finished'] * 3
    assert shown.scores == trained.scores and shown.curve == trained.curve[-1:]
    assert raw.changes == {'eval.metrics': ['length'], 'agent.act_weights': 'raw'}
    assert raw.scores != trained.scores and None not in raw.scores
    assert (raw.num_episodes, raw.budget) == (2, trained.budget)
    numbers = report_files.write(tmp_path / 'report', result.read(tmp_path))
    assert numbers['baseline'] == 'smoke/diffusion' and len(numbers['settings']) == 3
    keys = {factor['key'] for factor in numbers['factors']['factors']}
    assert keys == {'agent.act_weights', 'eval.metrics'}


@pytest.mark.slow
def test_settings_share_a_program_and_are_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    grid = '--grid=agent.learning_rate=1e-3,1e-2 agent.target_kl=0,0.01'
    words = ['--config=configs/smoke/ppo.py', '--num_seeds=2', f'--workdir={tmp_path}', grid]
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    assert '4 of them share 2 programs' in done.stdout
    assert 'agent.target_kl decides what is computed' in done.stdout
    found = result.read(tmp_path)
    assert [one.status for one in found] == ['finished'] * 4
    assert len(list(tmp_path.glob('runs/*/log.txt'))) == 2  # of two programs
    for one in found:
        assert len(one.scores) == 2 and None not in one.scores
        config = workdir.load_record(tmp_path / one.workdir)['config']['agent']
        for key, value in one.changes.items():
            assert config[key.removeprefix('agent.')] == value
    assert '0 are to be trained' in sweep(*words).stdout


def sweep(*flags):
    return fork.run('sweep', *flags)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--config=configs/smoke/ppo.py', '--grid=agent.gama=1'], 'did you mean agent.gamma'),
        (['--config=configs/smoke/ppo.py', '--acting=agent.tau=1'], '--acting: agent.tau: no such'),
        (['--config=configs/smoke/pp.py'], 'did you mean configs/smoke/ppo.py?'),
        (['--sweep=configs/smoke/ppo.py'], 'has no get_sweep(), found'),
        (['--sweep=configs/sweeps/pendulum.py', '--config.agent.taau=1'], 'mean agent.tau or'),
        (['--config=configs/smoke/ppo.py', '--halving=factor=1'], '--halving: factor: expected at'),
        ([], '--config: expected at least one recipe, found none'),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, flags, message):
    found = sweep(*flags, f'--workdir={tmp_path}/sweep')
    assert found.returncode == 1 and message in found.stderr
    assert found.stderr.count('\n') == 1 and found.stderr.startswith('sweep: error: ')
    assert not (tmp_path / 'sweep').exists()


def test_a_plan_is_printed_and_nothing_is_written(tmp_path):
    flags = ['--sweep=configs/sweeps/pendulum.py', '--config.loop.num_env_steps=3000']
    found = sweep(*flags, '--num_seeds=2', '--dry_run', f'--workdir={tmp_path}/sweep')
    assert found.returncode == 0, found.stderr
    assert 'question: ' in found.stdout
    assert '  agent.learning_rate=0.001, seeds 0-1, program 1\n' in found.stdout
    assert '2 runs of 2 settings, of which 2 are to be trained' in found.stdout
    assert not (tmp_path / 'sweep').exists()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_trains_nothing_twice(tmp_path):
    flags = ['--config=configs/smoke/ppo.py', '--grid=agent.gamma=0.9,0.95', '--num_seeds=2']
    command = ['sweep', *flags, '--workers=1', '--together=1', f'--workdir={tmp_path}']
    process, done = fork.Process(*command), []
    while not done and process.poll() is None:
        time.sleep(0.1)
        done = [found for found in result.read(tmp_path) if found.status == 'finished']
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    (first,) = done
    rows = (tmp_path / first.workdir / 'metrics.jsonl').read_text()
    after = fork.run(*command)
    assert after.returncode == 0, after.stderr
    assert f'{first.name}, seeds 0-1, finished' in after.stdout
    assert [found.status for found in result.read(tmp_path)] == ['finished'] * 2
    assert (tmp_path / first.workdir / 'metrics.jsonl').read_text() == rows
    again = fork.run(*command)
    assert 'of which 0 are to be trained' in again.stdout and again.returncode == 0
