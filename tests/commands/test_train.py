"""The launchers, run as a user runs them: train, kill, resume, evaluate, collect."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxpolicy.data import episodes as episodes_lib
from tests import fork, quick

RECIPES = ('diffusion', 'dagger', 'ppo', 'sac', 'iql')  # BC is what dagger's learner is
OFFLINE = ('diffusion', 'dagger', 'iql')
ONLINE = ('ppo', 'sac')
AGENTS = {'dagger': 'bc'}  # where it has another name
# of the network's kinds, the one that compiles quickly; others are in the tests of the agent
MLP = [f'--config.agent.{field}' for field in ('network=mlp', 'width=16', 'num_blocks=1')]
NOISY = ['--config.normalize.action=min_max', '--config.augment.obs_noise=0.01']


@pytest.fixture(scope='module')
def demos(tmp_path_factory):
    """Files of random episodes that look like demonstrations of the pendulum."""
    rng, paths = np.random.default_rng(0), {}
    lengths = rng.integers(16, 24, size=8)
    for recipe in OFFLINE:
        obs = rng.normal(size=(lengths.sum(), 3)).astype(np.float32)
        action = rng.uniform(-1, 1, size=(lengths.sum(), 1)).astype(np.float32)
        rewards = {}
        if recipe == 'iql':
            rewards = {
                'reward': rng.normal(size=len(obs)).astype(np.float32),
                'termination': np.zeros(len(obs), np.uint8),
                'last_obs': rng.normal(size=(len(lengths), 3)).astype(np.float32),
            }
        episodes = episodes_lib.Episodes(obs, action, np.cumsum(lengths), {}, **rewards)
        paths[recipe] = tmp_path_factory.mktemp('demos') / f'{recipe}.npz'
        episodes_lib.save(paths[recipe], episodes)
    return paths


@pytest.fixture(scope='module')
def expert(tmp_path_factory):
    """A run of SAC, which the learner of DAgger asks."""
    directory = tmp_path_factory.mktemp('sac') / 'run'
    result = fork.run(*train_arguments('sac', {}, directory))
    assert result.returncode == 0, result.stderr
    return directory


@pytest.fixture(scope='module')
def inputs(demos, expert):
    """What a recipe needs, as arguments."""
    found = {recipe: [f'--config.data.path={path}'] for recipe, path in demos.items()}
    found['dagger'].append(f'--config.expert.workdir={expert}')
    found['diffusion'] += MLP + NOISY
    return found


def train_arguments(recipe, inputs, directory, *more):
    config = f'--config=configs/smoke/{recipe}.py'
    return [
        'train', config, *inputs.get(recipe, []), f'--workdir={directory}', '--novideo', *more
    ]  # fmt: skip


def leaves(directory, step):
    """Every array of a checkpoint, as orbax has them on disk."""
    found = {}
    for item in ('train', 'loop'):
        path = directory / 'checkpoints' / str(step) / item
        tree = ocp.PyTreeCheckpointer().restore(path)
        found |= {f'{item}/{name}': np.asarray(value) for name, value in tree.items()}
    return found


def rows(directory):
    lines = (directory / 'metrics.jsonl').read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith('time/')}
        for line in lines
    ]


@pytest.fixture(scope='module', params=RECIPES)
def finished(request, inputs, expert, tmp_path_factory):
    """A run that nobody interrupted."""
    if request.param == 'sac':
        return request.param, expert
    directory = tmp_path_factory.mktemp(request.param) / 'run'
    result = fork.run(*train_arguments(request.param, inputs, directory))
    assert result.returncode == 0, result.stderr
    return request.param, directory


def second_checkpoint(process, directory):
    """Waits until it is there."""
    deadline = time.monotonic() + 240
    while not (directory / 'checkpoints' / '2').exists():
        assert process.poll() is None, process.wait(timeout=60)  # with what it has said
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_run_continues_bitwise(finished, inputs, tmp_path):
    recipe, reference = finished
    directory = tmp_path / 'run'
    arguments = train_arguments(recipe, inputs, directory)
    process = fork.Process(*arguments)
    second_checkpoint(process, directory)
    process.send_signal(signal.SIGKILL)
    code = process.wait(timeout=120).returncode
    assert code == -signal.SIGKILL or (directory / 'curves.png').exists()
    result = fork.run(*arguments)
    assert result.returncode == 0, result.stderr
    assert code == 0 or 'continuing after update' in result.stderr
    wanted, found = leaves(reference, 4), leaves(directory, 4)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    assert rows(reference) == rows(directory)
    for path in sorted((reference / 'rounds').glob('*')):
        wanted, found = (
            episodes_lib.load(d / 'rounds' / path.name) for d in (reference, directory)
        )
        np.testing.assert_array_equal(wanted.action, found.action)
        np.testing.assert_array_equal(wanted.tags['intervention'], found.tags['intervention'])


def test_sigterm_saves_first(inputs, tmp_path):
    """In an interpreter of its own, as `launch` does not test."""
    directory = tmp_path / 'run'
    more = '--config.loop.num_updates=1000000'
    module, *arguments = train_arguments('iql', inputs, directory, more)
    process = subprocess.Popen(
        [sys.executable, '-m', f'experiments.{module}', *arguments],
        cwd=fork.ROOT,
        env={**os.environ, 'XLA_FLAGS': quick.XLA_FLAGS},
    )
    second_checkpoint(process, directory)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 1
    last = rows(directory)[-1]['round']
    assert (directory / 'checkpoints' / str(last) / '_CHECKPOINT_METADATA').exists()


def test_the_workdir_holds_the_run(finished):
    recipe, directory = finished
    config = json.loads((directory / 'config.json').read_text())
    assert config['versions']['jax'] and config['config']['agent']['name'] == AGENTS.get(
        recipe, recipe
    )
    files = ('spec.json', 'metrics.jsonl', 'metrics.csv', 'curves.png', 'tensorboard')
    for name in (*files, 'checkpoints/4'):
        assert (directory / name).exists(), name
    found = rows(directory)
    assert [row['round'] for row in found] == [1, 2, 3, 4]
    assert all(np.isfinite(list(row.values())).all() for row in found)
    assert len(list(directory.glob('rounds/*.npz'))) == (4 if recipe == 'dagger' else 0)
    assert 'eval/success_max' in found[3] and 'eval/success_max' not in found[0]
    assert (found[-1]['env_steps'] > 0) == (recipe in (*ONLINE, 'dagger'))


def test_evaluate(finished, tmp_path):
    recipe, directory = finished
    out = tmp_path / 'summary.json'
    num = 5 if recipe == 'ppo' else 2  # as in training, whose program is then in the cache
    arguments = [f'--num_episodes={num}', '--first_seed=7', f'--out={out}', '--novideo']
    result = fork.run('evaluate', f'--workdir={directory}', *arguments)
    assert result.returncode == 0, result.stderr
    summary = json.loads(out.read_text())
    assert summary['metrics']['length']['mean'] == 3.0 and summary['first_seed'] == 7
    low, high = (summary['metrics']['success_max'][name] for name in ('low', 'high'))
    assert 0.0 <= low <= high <= 1.0
    table = (directory / 'evaluation' / 'episodes_deterministic.csv').read_text().splitlines()
    assert len(table) == 1 + num and table[1].startswith('7,')
    assert summary['mode'] == 'deterministic' and not summary['other_modes']


def test_seeds_train_together_and_are_reported_with_intervals(tmp_path):
    directory = tmp_path / 'run'
    more = ('--num_seeds=2', '--seed=3', '--config.eval.modes=deterministic,stochastic')
    result = fork.run(*train_arguments('ppo', {}, directory, *more))
    assert result.returncode == 0, result.stderr
    last = rows(directory)[-1]
    each = [last[f'seed{i}/eval/return'] for i in range(2)]
    assert each[0] != each[1] and np.isclose(last['eval/return'], np.mean(each))
    assert last['eval/return_low'] < last['eval/return'] < last['eval/return_high']
    assert last['eval/stochastic_return'] != last['eval/return']
    arguments = [f'--workdir={directory}', '--num_episodes=2', '--novideo']
    result = fork.run('evaluate', *arguments, '--override=eval.modes=stochastic')
    assert result.returncode == 0, result.stderr
    summary = json.loads((directory / 'evaluation' / 'summary.json').read_text())
    assert summary['num_seeds'] == summary['metrics']['return']['n'] == 2
    table = (directory / 'evaluation' / 'episodes_stochastic.csv').read_text().splitlines()
    assert table[0].startswith('agent,seed,') and len(table) == 1 + 2 * 2
    result = fork.run('evaluate', *arguments, '--override=agent.gamma=1.0')
    assert result.returncode != 0 and '--override: expected a key of' in result.stderr
    alone = fork.run(*train_arguments('ppo', {}, directory, '--seed=3'))
    assert alone.returncode != 0 and '(num_seeds): 2 -> 1' in alone.stderr


def only(recipe):
    """For tests that need one of the finished runs."""
    return pytest.mark.parametrize('finished', [recipe], indirect=True)


@only('iql')
def test_another_config_is_refused(finished, inputs):
    recipe, directory = finished
    result = fork.run(*train_arguments(recipe, inputs, directory, '--config.agent.tau=0.3'))
    assert result.returncode != 0
    assert 'agent.tau: 0.005 -> 0.3' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_run_that_never_began_does_not_block_its_workdir(inputs, tmp_path):
    nowhere = {'iql': ['--config.data.path=nowhere.npz']}
    missing = fork.run(*train_arguments('iql', nowhere, tmp_path))
    assert missing.returncode != 0 and 'nowhere.npz' in missing.stderr
    assert 'Traceback' not in missing.stderr
    result = fork.run(*train_arguments('iql', inputs, tmp_path, '--config.eval.every=0'))
    assert result.returncode == 0, result.stderr


@only('iql')
def test_other_data_at_the_same_path_is_refused(finished, demos, inputs):
    recipe, directory = finished
    path = demos[recipe]
    original, episodes = path.read_bytes(), episodes_lib.load(path)
    try:
        episodes_lib.save(path, episodes._replace(action=-episodes.action))
        result = fork.run(*train_arguments(recipe, inputs, directory))
    finally:
        path.write_bytes(original)
    assert result.returncode != 0 and 'Traceback' not in result.stderr
    assert 'data.path: expected the data that this run began with' in result.stderr


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('--config.agent.learning_rat=1e-3', ['agent.learning_rat:', 'agent.learning_rate']),
        ('--config.agent.num_minibatches=3', ['num_minibatches', '16', '3']),
        ('--config.agent.name=sac', ['fields', 'sac', 'tau']),
        ('--config.env.name=detor', ['config.env.name', "did you mean 'detour'?"]),
        ('--config.env.name=detour --config.env.tolerance=x', ['env.tolerance', "found 'x'"]),
        ('--config.normalize.obs=min_max', ['begin.workdir', 'normalize', 'min_max']),
    ],
)
def test_bad_flags_give_one_clear_line(argument, words, tmp_path):
    arguments = ['--config=configs/smoke/ppo.py', f'--workdir={tmp_path}', *argument.split()]
    result = fork.run('train', *arguments)
    assert result.returncode != 0
    assert 'Traceback' not in result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def collected(out, *arguments):
    """20 episodes of an expert that never fails; where they begin; and what was printed."""
    result = fork.run('collect', f'--out={out}', '--num_episodes=20', '--seed=3', *arguments)
    assert result.returncode == 0, result.stderr
    episodes = episodes_lib.load(out)
    assert len(episodes.episode_ends) == 20
    assert np.abs(episodes.action).max() <= 1.0
    first = np.concatenate([[0], episodes.episode_ends[:-1]])
    np.testing.assert_array_equal(np.flatnonzero(episodes.termination), episodes.episode_ends - 1)
    returns = np.add.reduceat(episodes.reward, first)
    assert f'mean return {returns.mean():.3f}' in result.stdout
    assert '512 episodes were tried: success rate 1.000' in result.stdout
    return episodes, first, returns


def test_collect_writes_what_training_reads(tmp_path):
    episodes, first, returns = collected(tmp_path / 'demos.npz', '--env=tests.commands.line')
    (place, step), (end, last) = episodes.obs.T, episodes.last_obs.T
    assert (np.abs(place[first]) > 0.2).all() and (place[first] > 0).any()
    np.testing.assert_allclose(returns, np.abs(place[first]) - np.abs(end), atol=1e-5)
    # Every action belongs to the observation before it, and the last one led to the goal.
    after = np.append(place[1:], 0.0)
    after[episodes.episode_ends - 1] = end
    np.testing.assert_allclose(after, place + 0.3 * episodes.action[:, 0], atol=1e-5)
    assert (np.abs(end) < 0.05).all() and (step[first] == 0).all()
    np.testing.assert_array_equal(last, np.diff(np.append(first, len(place))))
    assert len(set(last)) > 1  # they are of different lengths


@pytest.mark.slow
def test_collect_asks_the_expert_of_detour(tmp_path):
    episodes, first, returns = collected(tmp_path / 'demos.npz')
    goal, ee = episodes.obs[:, 24:27], episodes.obs[:, 21:24]
    distance = np.linalg.norm(goal - ee, axis=-1)
    assert (distance[first] > 0.2).all()
    # The observation before the last action: one step of at most a few centimetres away.
    assert (distance[episodes.episode_ends - 1] < 0.08).all()
    # The last action led to the goal, which ended the episode and was rewarded.
    last = episodes.last_obs
    assert (np.linalg.norm(last[:, 24:27] - last[:, 21:24], axis=-1) < 0.05).all()
    assert np.abs(last[:, :7] - episodes.obs[episodes.episode_ends - 1, :7]).max() < 0.1
    assert (episodes.reward[episodes.episode_ends - 1] > 4.9).all()
    assert (returns > 5.0 + 5.0 * (distance[first] - 0.05)).all()  # the way around is longer


@only('ppo')
def test_a_run_demonstrates(finished, tmp_path):
    _, directory = finished
    out = tmp_path / 'demos.npz'
    arguments = [
        '--num_episodes=5',
        '--noise=0,1',
        '--mode=stochastic',
        '--override=episode_steps=2',
    ]
    result = fork.run('collect', f'--workdir={directory}', f'--out={out}', *arguments)
    assert result.returncode == 0, result.stderr
    episodes = episodes_lib.load(out)
    assert episodes.episode_ends.tolist() == [2, 4, 6, 8, 10]
    assert episodes.tags['noise'].tolist() == [0] * 6 + [100] * 4
    assert not episodes.termination.any() and len(episodes.last_obs) == 5
    assert result.stdout.count('success rate') == 4  # of the file, of all, and of each noise


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('--noise=0,2', '--noise: expected different numbers from 0 to 1'),
        ('--mode=stochastic', '--mode: expected a --workdir with it'),
    ],
)
def test_bad_flags_of_collect_give_one_clear_line(argument, words, tmp_path):
    result = fork.run('collect', f'--out={tmp_path / "x.npz"}', argument)
    assert result.returncode != 0 and 'Traceback' not in result.stderr
    assert result.stderr.startswith('collect: error: ') and words in result.stderr
