"""Demonstrations of experts and runs, on a task whose rewards are known in closed form."""

import contextlib
import dataclasses
import json
import shutil
import sys
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import checkpoint, spec_file, workdir
from jaxpolicy.loops import collect as demonstrations
from jaxpolicy.runs import demonstrators, environment, learner, recipe, upgrade
from tests import acting

SPEED, BOX = 0.25, 1.5


@dataclasses.dataclass(frozen=True)
class Config:
    """Walk to the goal; who leaves the box fails."""

    episode_steps: int = 12
    tolerance: float = 0.2
    says_success: bool = True


def make(config):
    leaf = jax.ShapeDtypeStruct((2,), jnp.float32)
    spec = types.Spec({'goal': leaf, 'position': leaf}, leaf)

    def reset(key):
        key, position_key, goal_key = jax.random.split(key, 3)
        obs = {
            'goal': jax.random.uniform(goal_key, (2,), minval=-1.0),
            'position': jax.random.uniform(position_key, (2,), minval=-1.0),
        }
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        metrics = {'success': zero} if config.says_success else {}
        return types.EnvState(obs, obs, zero, no, no, metrics, key, ())

    def step(state, action):
        position = state.obs['position'] + SPEED * jnp.clip(action, -1.0, 1.0)
        obs = {'goal': state.obs['goal'], 'position': position}
        distance = jnp.linalg.norm(obs['goal'] - position)
        success = distance < config.tolerance
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=-distance,
            termination=success | (jnp.abs(position) > BOX).any(),
            metrics={'success': success.astype(jnp.float32)} if config.says_success else {},
        )

    return types.Env(reset, step, spec)


def make_expert(config):
    """Straight to the goal, and beyond what an action can be."""
    del config

    def act(carry, obs, key):
        return carry, (obs['goal'] - obs['position']) / SPEED, {}

    return types.Policy(lambda obs: (), act)


@pytest.fixture(scope='module')
def walk():
    """The task and its expert, where the commands find them."""
    task, expert = (python_types.ModuleType(name) for name in ('walk_task', 'walk_expert'))
    vars(task).update(Config=Config, make=make, control_hz=lambda config: 10.0)
    vars(task).update(EXPERT='walk_expert')
    vars(expert).update(make=make_expert)
    with pytest.MonkeyPatch.context() as patch:
        for module in (task, expert):
            patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(registry.TABLES['envs'], 'walk', 'walk_task')
        yield


@pytest.fixture(scope='module')
def mixed(walk):
    expert = demonstrators.scripted('walk')
    return demonstrations.collect(expert, 101, 3, (0.0, 0.3, 1.0), 'all')


def split(episodes):
    """The rows of each episode."""
    ends = episodes.episode_ends
    return [np.arange(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def clipped(episodes, rows):
    obs = {name: value[rows] for name, value in episodes.obs.items()}
    return np.clip((obs['goal'] - obs['position']) / SPEED, -1.0, 1.0)


def test_the_file_says_what_each_action_brought(mixed, tmp_path):
    episodes, kept, _ = mixed
    episodes_lib.save(tmp_path / 'walk.npz', episodes)
    loaded = episodes_lib.load(tmp_path / 'walk.npz')
    endings = {'reached': 0, 'left': 0, 'time': 0}
    for e, rows in enumerate(split(loaded)):
        goal, last = loaded.obs['goal'][rows], loaded.last_obs['position'][e]
        led = np.concatenate([loaded.obs['position'][rows[1:]], last[None]])
        moved = loaded.obs['position'][rows] + SPEED * loaded.action[rows]
        np.testing.assert_allclose(led, moved, atol=1e-6)
        distance = np.linalg.norm(goal - led, axis=1)
        np.testing.assert_allclose(loaded.reward[rows], -distance, atol=1e-6)
        assert np.isclose(kept[e].total, loaded.reward[rows].sum(), atol=1e-5)
        np.testing.assert_array_equal(loaded.last_obs['goal'][e], goal[0])
        reached, left = distance < 0.2, (np.abs(led) > BOX).any(1)
        assert not (reached | left)[:-1].any()
        how = 'reached' if reached[-1] else 'left' if left[-1] else 'time'
        endings[how] += 1
        assert kept[e].success == reached[-1] and (how != 'time' or len(rows) == 12)
        assert loaded.termination[rows].tolist() == [0] * (len(rows) - 1) + [int(how != 'time')]
    assert min(endings.values()) > 0, endings  # all of it was tested


def test_noise_has_equal_shares_and_is_as_strong_as_it_says(mixed):
    episodes, kept, tried = mixed
    assert [one.noise for one in kept] == [0.0] * 34 + [0.3] * 34 + [1.0] * 33
    assert len(tried) == demonstrations.BATCH and len(episodes.episode_ends) == 101
    rows = split(episodes)
    for e, one in enumerate(kept):
        assert (episodes.tags['noise'][rows[e]] == round(100 * one.noise)).all()
    replaced = {}
    for percent in (0, 30, 100):
        chosen = np.flatnonzero(episodes.tags['noise'] == percent)
        expert = clipped(episodes, chosen)
        replaced[percent] = (np.abs(episodes.action[chosen] - expert) > 1e-5).any(1).mean()
        if percent == 100:
            assert np.abs(episodes.action[chosen].mean(0)).max() < 0.15
            assert 0.5 < episodes.action[chosen].std() < 0.65  # uniform: 1 / sqrt(3)
    assert replaced[0] == 0.0 and replaced[100] == 1.0 and 0.2 < replaced[30] < 0.4
    success = [
        demonstrations.summary([one for one in tried if one.noise == level])[0]
        for level in (0.0, 0.3, 1.0)
    ]
    assert success[0] == 1.0 > success[1] > success[2] + 0.2
    assert episodes.info['noise'] == '0, 0.3, 1'
    assert np.isclose(episodes.info['success_rate'], np.mean([one.success for one in kept]))
    assert np.isclose(episodes.info['mean_return'], episodes.reward.sum() / 101, atol=1e-4)


def test_failures_are_left_out_only_where_they_should(walk):
    expert = demonstrators.scripted('walk', ['env.episode_steps=4'])
    best, kept, tried = demonstrations.collect(expert, 20, 0)
    rate, _ = demonstrations.summary(tried)
    assert 0.2 < rate < 0.9 and all(one.success == 1.0 for one in kept)
    assert (best.termination[best.episode_ends - 1] == 1).all() and not best.tags
    assert best.info['override'] == 'env.episode_steps=4'
    every, kept, _ = demonstrations.collect(expert, 20, 0, keep='all')
    assert {one.success for one in kept} == {0.0, 1.0}
    assert np.diff(every.episode_ends, prepend=0).max() == 4


def test_what_cannot_be_collected(walk):
    silent = demonstrators.scripted('walk', ['env.says_success=false'])
    with pytest.raises(ValueError, match="--keep: expected 'all', as 'walk' does not say"):
        demonstrations.collect(silent, 5, 0)
    _, kept, _ = demonstrations.collect(silent, 5, 0, keep='all')
    assert np.isnan(demonstrations.summary(kept)[0])
    expert = demonstrators.scripted('walk')
    with pytest.raises(ValueError, match='--num_episodes: expected at least one for each noise, 3'):
        demonstrations.collect(expert, 2, 0, (0.0, 0.5, 1.0))
    exact = demonstrators.scripted('walk', ['env.tolerance=0'])
    with pytest.raises(ValueError, match='expected {0.0: 5} episodes .* found {0.0: 0} among 2048'):
        demonstrations.collect(exact, 5, 0)
    with pytest.raises(ValueError, match='env.tolerance_m: no such key; did you mean env.toler'):
        demonstrators.scripted('walk', ['env.tolerance_m=1'])
    with pytest.raises(
        ValueError, match=r"expected a key of \('env',\), found 'disturb.obs_noise'"
    ):
        demonstrators.scripted('walk', ['disturb.obs_noise=1'])
    with pytest.raises(
        ValueError, match="config.env.name: expected .* detour or pick, found 'reach'"
    ):
        demonstrators.scripted('reach')


@pytest.mark.parametrize('values', [['2'], ['0', 'much'], ['0.3', '0.30'], ['0.005'], ['nan']])
def test_noise_is_checked(values):
    with pytest.raises(ValueError, match='--noise: expected different numbers from 0 to 1'):
        demonstrations.check_noise(values)


def test_a_broken_world_is_no_demonstration(walk):
    expert = demonstrators.scripted('walk')

    def step(state, action):
        state = expert.env.step(state, action)
        broken = jnp.arange(len(state.reward)) % 2 == 0
        return state.replace(reward=jnp.where(broken, jnp.nan, state.reward))

    broken = expert._replace(env=expert.env._replace(step=step))
    episodes, kept, tried = demonstrations.collect(broken, 20, 0)
    assert np.isfinite(episodes.reward).all() and len(tried) == demonstrations.BATCH // 2
    assert episodes.info['broken_episodes'] == demonstrations.BATCH // 2


@pytest.fixture(scope='module')
def run(walk, tmp_path_factory):
    """A run of two seeds that nobody trained."""
    directory = tmp_path_factory.mktemp('run')
    config = recipe.on_policy('ppo', 'walk')
    config.agent.hidden = (8,)
    workdir.prepare(directory, config, seed=0, num_seeds=2, upgrade=upgrade.upgrade)
    agent = learner.make_agent(config, environment.make_env(config).spec)
    train = jax.vmap(agent.init)(jax.random.split(jax.random.key(0), 2))
    state = types.LoopState(train=train, env=(), key=jax.random.key(0))
    with contextlib.closing(checkpoint.open_manager(directory / 'checkpoints')) as manager:
        checkpoint.save(manager, 7, state, {}, None)
    return directory, agent, jax.tree.map(lambda x: x[0], train)


def test_the_policy_of_a_run_demonstrates(run):
    directory, agent, train = run
    episodes, _, _ = demonstrations.collect(demonstrators.of_run(directory), 20, 0, keep='all')
    wanted, _ = acting.act_of(agent)(train, episodes.obs, jax.random.key(0), True)
    np.testing.assert_allclose(episodes.action, np.clip(wanted, -1.0, 1.0), atol=1e-5)
    assert episodes.info['source'] == (
        f'ppo of {directory}, checkpoint 7, deterministic, seed 0, all episodes'
    )
    explorer = demonstrators.of_run(directory, '7', 'stochastic', ['env.tolerance=0.5'])
    explored, kept, _ = demonstrations.collect(explorer, 20, 0, keep='all')
    assert (np.abs(explored.action) <= 1.0).all() and (np.abs(explored.action) == 1.0).any()
    last = explored.last_obs['goal'] - explored.last_obs['position']
    reached = np.linalg.norm(last, axis=1) < 0.5
    assert reached.tolist() == [one.success == 1.0 for one in kept]


def test_runs_that_cannot_demonstrate(run, tmp_path):
    directory, _, _ = run
    with pytest.raises(ValueError, match="--checkpoint: expected .*7.*found '3'"):
        demonstrators.of_run(directory, '3')
    with pytest.raises(ValueError, match="expected a key of .*'disturb'.*found 'agent.gamma'"):
        demonstrators.of_run(directory, changes=['agent.gamma=0.5'])
    with pytest.raises(ValueError, match='expected a run, found no config.json'):
        demonstrators.of_run(tmp_path)
    outside = shutil.copytree(directory, tmp_path / 'outside')
    record = json.loads((outside / workdir.CONFIG_FILE).read_text())
    record['config']['env'] = {'name': 'pusht_gym'}
    (outside / workdir.CONFIG_FILE).write_text(json.dumps(record))
    spec_file.write(outside, demonstrators.of_run(directory).env.spec, {})
    with pytest.raises(ValueError, match="expected an env on the device, found 'pusht_gym'"):
        demonstrators.of_run(outside)
