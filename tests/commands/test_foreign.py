"""Somebody else's package, installed beside ours: trained, killed, resumed and evaluated."""

import functools
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import jax
import numpy as np
import pytest

from jaxpolicy.io import metrics, recipe_file, results
from jaxpolicy.runs import continuing, launch, recipe, saved
from tests import fork, quick

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOREIGN = ROOT / 'tests' / 'foreign'
ALONE = launch.Options(num_devices=1)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder of installed packages that has `mylab`, with what pip writes about it."""
    folder = tmp_path_factory.mktemp('site')
    shutil.copytree(FOREIGN / 'mylab', folder / 'mylab')
    project = tomllib.loads((FOREIGN / 'pyproject.toml').read_text())['project']
    about = folder / 'mylab-0.1.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text('Metadata-Version: 2.1\nName: mylab\nVersion: 0.1\n')
    lines = []
    for group, points in project['entry-points'].items():
        lines += [f'[{group}]', *(f'{name} = {place}' for name, place in points.items())]
    (about / 'entry_points.txt').write_text('\n'.join(lines) + '\n')
    return folder


@pytest.fixture(scope='module')
def here(site):
    """The same in this process."""
    for name in [name for name in sys.modules if name.split('.')[0] == 'mylab']:
        del sys.modules[name]  # another test's package of the same name
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield site
    sys.path.remove(str(site))
    for name in [name for name in sys.modules if name.split('.')[0] == 'mylab']:
        del sys.modules[name]


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    """Demonstrations that go straight to the goal, in the format of `mylab.table`."""
    rng, rows = np.random.default_rng(0), []
    for episode in range(40):
        position, goal = rng.uniform(-1, 1, 2)
        for _ in range(12):
            action = np.clip((goal - position) / 0.4, -1, 1)
            rows.append((episode, position, goal, action))
            position = np.clip(position + 0.2 * action, -1, 1)
    path = tmp_path_factory.mktemp('demos') / 'demos.csv'
    np.savetxt(path, np.asarray(rows), delimiter=',')
    return path


def start(site, command, *arguments):
    """`python -m jaxpolicy COMMAND` in a process that finds the package by its installation."""
    environment = dict(os.environ, PYTHONPATH=f'{site}{os.pathsep}{ROOT}')
    environment['XLA_FLAGS'] = quick.XLA_FLAGS  # one device, as users have
    return subprocess.Popen(
        [sys.executable, '-m', 'jaxpolicy', command, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        cwd=site,
    )  # fmt: skip


def test_all_that_is_foreign_trains_is_killed_resumes_and_is_evaluated(site, table, tmp_path):
    directory = tmp_path / 'run'
    arguments = [
        '--config=mylab_track', f'--config.data.path={table}', f'--workdir={directory}', '--novideo'
    ]  # fmt: skip
    process = start(site, 'train', *arguments)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(directory.glob('checkpoints/[0-9]*'))) > 0:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    process.communicate()
    assert process.returncode in (0, -signal.SIGKILL)
    resumed = fork.run('train', *arguments, site=site)
    assert resumed.returncode == 0, resumed.stderr
    rows = [json.loads(line) for line in (directory / 'metrics.jsonl').read_text().splitlines()]
    assert [row['round'] for row in rows] == list(range(1, 61))
    assert rows[-1]['train/mse'] < 0.5 * rows[0]['train/mse']
    found = fork.run('evaluate', f'--workdir={directory}', '--num_episodes=64', site=site)
    assert found.returncode == 0, found.stderr
    assert '64 episodes' in found.stdout and 'success_max' in found.stdout
    found = json.loads((directory / 'evaluation' / 'summary.json').read_text())['metrics']
    assert found['success_max']['mean'] > 0.9  # a linear map suffices


def test_worlds_that_break_are_counted_and_nothing_is_lost(here, tmp_path):
    config = recipe_file.load('mylab.recipes.track_a2c')
    assert launch.train(config, tmp_path / 'run', ALONE)
    rows = [json.loads(x) for x in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert all(row['train/nan_worlds'] > 0 for row in rows)
    assert rows[-1]['eval/broken_episodes'] > 0  # a third of the episodes, which means leave out
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert rows[-1]['env_steps'] == 4 * 2560
    train = saved.open_run(tmp_path / 'run').train
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(train.params))


def strict(path):
    """A file's rows or object, which is JSON as the standard has it: without NaN and infinity."""
    read = functools.partial(json.loads, parse_constant=lambda name: pytest.fail(f'{path}: {name}'))
    text = path.read_text()
    return [read(line) for line in text.splitlines()] if path.suffix == '.jsonl' else read(text)


def test_an_env_that_breaks_trains_resumes_and_is_evaluated(
    site, here, tmp_path, capsys, monkeypatch
):
    """A broken observation, in off-policy learning; and at last all episodes break."""
    directory = tmp_path / 'run'
    monkeypatch.setattr(continuing, 'scored_by', lambda config: 0)  # as if the env stayed the same
    config = recipe_file.load('mylab.recipes.track_td3')
    config.loop.num_env_steps = 8 + 2 * 32
    assert launch.train(config, directory, ALONE)
    (*_, row) = strict(directory / 'metrics.jsonl')
    assert row['train/nan_worlds'] > 0 and 0 < row['eval/broken_episodes'] < 8
    assert all(np.isfinite(value) for value in row.values())
    record = strict(directory / 'config.json')
    record['config'] |= {'loop': record['config']['loop'] | {'num_env_steps': 8 + 4 * 32}}
    record['config']['env']['breaks'] = 1.0
    (directory / 'config.json').write_text(json.dumps(record))
    config = saved.load_config(directory)
    assert launch.train(config, directory, ALONE)
    assert 'all 8 deterministic episodes broke' in capsys.readouterr().err
    rows = strict(directory / 'metrics.jsonl')
    assert [row['round'] for row in rows] == [1, 2, 3, 4]
    assert rows[3]['eval/return'] is None and rows[3]['eval/broken_episodes'] == 8
    assert np.isnan(metrics.read(directory)[3]['eval/return'])
    run = saved.open_run(directory)
    assert run.step == 2  # the best one; the last has no score
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.train))

    def evaluate(*more):
        arguments = (f'--workdir={directory}', '--num_episodes=8', '--first_seed=100000', *more)
        return fork.run('evaluate', *arguments, site=site)

    done = evaluate('--override=env.breaks=0.1')
    assert done.returncode == 0 and 'no video: ' in done.stderr, done.stderr
    found = strict(directory / 'evaluation' / 'summary.json')
    count = found['broken_episodes']['deterministic']
    assert 0 < count < 8 and found['metrics']['return']['n'] == 8 - count
    assert 'broken_episodes' in done.stdout
    asked = {key: found[key] for key in ('checkpoint', 'num_episodes', 'first_seed')}
    message = r'override: \["env.breaks=0.1"\] -> \[\].*--name=NAME'
    with pytest.raises(ValueError, match=message):
        results.folder(directory, 'evaluation', asked | {'override': []})
    done = evaluate('--name=all_broke', '--novideo')
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    assert 'all 8 deterministic episodes broke' in done.stdout
    found = strict(directory / 'all_broke' / 'summary.json')
    assert found['metrics']['return'] == {'mean': None, 'low': None, 'high': None, 'n': 0}


def test_a_policy_is_sampled_by_a_foreign_sampler(here, table, tmp_path):
    config = recipe.offline('diffusion', 'mylab.track', 'mylab.table', str(table))
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.agent.num_train_steps, config.agent.num_sample_steps = 4, 2
    config.agent.sampler = 'mylab.samplers.last_prediction'
    config.eval.every, config.loop.num_epochs, config.loop.batch_size = 0, 1, 64
    assert launch.train(config, tmp_path / 'run', ALONE)
    policy = saved.load_policy(tmp_path / 'run')
    obs = np.zeros((1, 2), np.float32)
    _, action, _ = policy.act(policy.init(obs), obs, jax.random.key(0))
    assert action.shape == (1, 1) and np.isfinite(action).all()
    other = saved.load_policy(tmp_path / 'run', changes={'agent.sampler': 'ddim'})
    _, expected, _ = other.act(other.init(obs), obs, jax.random.key(0))
    assert not np.array_equal(action, expected)
