"""Labels for demonstrations without actions, and rewards from one; on the pendulum."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.pendulum import orca
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.tasks import pendulum
from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.loops import rollout
from jaxpolicy.runs import action_labels as labelling
from jaxpolicy.runs import environment, imitate
from tests import fork

NUM, LENGTH = 3, 40
STEPS, UPDATES = 6_400, 600  # the same everywhere: the programs are then in the cache


@pytest.fixture(scope='module')
def demos():
    """Three episodes of smooth random actions."""
    env = vectorize.vectorize(time_limit.time_limit(pendulum.make(pendulum.Config()), LENGTH))
    policy = labelling.smooth_policy(env.spec)

    @jax.jit
    def run(key):
        state = env.reset(jax.random.split(key, NUM))
        return rollout.rollout(env, policy, state, policy.init(state.obs), key, LENGTH)[2]

    batch = jax.tree.map(np.asarray, run(jax.random.key(7)))
    flat = lambda x: np.moveaxis(x, 0, 1).reshape(-1, x.shape[-1])  # noqa: E731
    return episodes_lib.Episodes(
        flat(batch.obs),
        flat(batch.action),
        LENGTH * np.arange(1, NUM + 1),
        {'source': 'test'},
        last_obs=batch.next_obs[-1],
    )


@pytest.fixture(scope='module')
def model():
    who = labelling.explorer('pendulum', '', [])
    return labelling.fit(who, labelling.Config(STEPS, UPDATES), 0)


def test_labels_are_near_the_true_actions_which_they_do_not_use(demos, model):
    agent, state, errors = model
    assert set(errors) == {'uniform', 'smooth'}
    assert all(error.rmse < 0.25 and error.explained > 0.85 for error in errors.values()), errors
    labelled = labelling.label(agent, state, demos, 'a test')
    assert labelling.compare(labelled.action, demos.action).explained > 0.85
    # other actions, rewards and tags in the file: the same labels, and none of those
    other = demos._replace(
        action=np.zeros_like(demos.action),
        tags={'x': np.ones(len(demos.action), np.uint8)},
        reward=np.ones(len(demos.action), np.float32),
    )
    again = labelling.label(agent, state, other, 'a test')
    np.testing.assert_array_equal(again.action, labelled.action)
    assert again.reward is None and not again.tags
    np.testing.assert_array_equal(labelled.obs, demos.obs)
    np.testing.assert_array_equal(labelled.last_obs, demos.last_obs)
    assert labelled.info['labels'] == 'a test'


def test_without_a_last_observation_the_last_row_goes(demos, model):
    agent, state, _ = model
    whole = labelling.label(agent, state, demos, 'a test')
    cut = labelling.label(agent, state, demos._replace(last_obs=None), 'a test')
    episodes_lib.validate(cut, 'cut')
    rows = np.delete(np.arange(NUM * LENGTH), np.arange(1, NUM + 1) * LENGTH - 1)
    np.testing.assert_array_equal(cut.episode_ends, (LENGTH - 1) * np.arange(1, NUM + 1))
    np.testing.assert_array_equal(cut.obs, demos.obs[rows])
    np.testing.assert_allclose(cut.action, whole.action[rows], atol=1e-6)
    np.testing.assert_array_equal(cut.last_obs, demos.obs[LENGTH - 1 :: LENGTH])
    short = demos._replace(last_obs=None, episode_ends=np.array([1, NUM * LENGTH]))
    with pytest.raises(ValueError, match='at least two observations'):
        labelling.pairs(short)


def test_what_does_not_fit_is_refused(demos):
    with pytest.raises(ValueError, match='--env: expected a task'):
        labelling.explorer('', '', [])
    wide = demos._replace(obs=np.ones((NUM * LENGTH, 4), np.float32), last_obs=None)
    with pytest.raises(ValueError, match='--demos: expected'):
        labelling.check_fit(labelling.explorer('pendulum', '', []).env.spec, wide)


def test_the_program(demos, tmp_path):
    path, out = tmp_path / 'demos.npz', tmp_path / 'new' / 'labelled.npz'
    episodes_lib.save(path, demos)
    other = tmp_path / 'other.npz'
    episodes_lib.save(other, demos._replace(info={'env': 'cartpole'}))
    arguments = f'--env=pendulum --demos={path},{other} --out={out} '
    arguments += f'--explore_steps={STEPS} --num_updates={UPDATES}'
    flags = os.environ['XLA_FLAGS']
    done = fork.run('label', *arguments.split(), '--compare', xla_flags=flags)
    assert done.returncode == 0, done.stderr
    assert 'uniform' in done.stdout and 'of the file' in done.stdout
    labelled = episodes_lib.load(out)
    assert str(labelled.info['labels']).startswith(
        f'inverse dynamics, {STEPS} own steps each of uniform'
    )
    assert len(labelled.action) == 2 * NUM * LENGTH
    assert f"warning: {other}: its episodes are of 'cartpole', this run is of" in done.stderr
    assert done.stderr.count('warning: ') == 1


def _config(file, **changes):
    config: Any = orca.get_config()
    config.imitate.update({'path': str(file), 'length': 0, 'stride': 10, **changes})
    return config


def test_a_demonstration_becomes_the_reward(demos, tmp_path):
    path = tmp_path / 'demos.npz'
    episodes_lib.save(path, demos)
    config = _config(path, episode=1, columns=(0, 2))
    shown, frames = imitate.demonstration(config.imitate, demos)
    rows = np.concatenate([demos.obs[LENGTH : 2 * LENGTH], demos.last_obs[1:2]])[:, [0, 2]]
    np.testing.assert_array_equal(shown, rows)
    np.testing.assert_array_equal(frames, rows[[0, 10, 20, 30, 40]])
    np.testing.assert_array_equal(
        imitate.demonstration(_config(path, length=12, stride=5).imitate, demos)[1],
        demos.obs[[1, 6, 11]],
    )
    # whoever does what is shown gets all of it; actions are used here only to do so
    env = environment.make_env(_config(path, episode=1))
    state = env.reset(jax.random.split(jax.random.key(0), 1))
    cos, sin, speed = demos.obs[LENGTH]
    at_start = pendulum.Sim(jnp.array([np.arctan2(sin, cos)]), jnp.array([speed]))
    limited = state.sim
    covering = limited.inner.replace(inner=at_start, covered=limited.inner.covered.at[:, 0].set(1))
    state, step = state.replace(sim=limited.replace(inner=covering)), jax.jit(env.step)
    for action in demos.action[LENGTH : 2 * LENGTH]:
        state = step(state, jnp.asarray(action)[None])
    assert float(state.reward[0]) == pytest.approx(1.0, abs=0.02)
    assert float(state.metrics['task_reward'][0]) < -0.1


def test_what_the_config_names_must_be_there(demos, tmp_path):
    path = tmp_path / 'demos.npz'
    episodes_lib.save(path, demos)
    for changes, message in (
        ({'episode': 3}, r'imitate.episode: expected 0 to 2, found 3'),
        ({'stride': 0}, 'imitate.stride: expected at least 1'),
        ({'length': -1}, 'imitate.length'),
        ({'columns': (3,)}, r'imitate.columns: expected columns in \[0, 3\)'),
        ({'scale': (1.0,)}, 'imitate.scale: expected 3 positive numbers'),
        ({'path': str(tmp_path / 'none.npz')}, 'found none'),
    ):
        with pytest.raises(ValueError, match=message):
            environment.make_env(_config(path, **changes))
    keys = jax.random.split(jax.random.key(0), 2)
    plain = jax.eval_shape(environment.make_env(_config('')).reset, keys)
    assert 'task_reward' not in plain.metrics  # without a path, it is the task's own
    first, second = (imitate.fingerprint(_config(path, episode=e)) for e in (0, 1))
    assert first != second and '5 frames' in first
