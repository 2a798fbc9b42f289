"""Disturbances, on an environment that shows what it was told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxpolicy.envs.tasks import reach
from jaxpolicy.envs.wrap import auto_reset, disturb, time_limit, truth, vectorize
from jaxpolicy.types import Env, EnvState, Spec
from tests.envs import native

SPEC = Spec(*(jax.ShapeDtypeStruct((1,), jnp.float32),) * 2)


class Sim(struct.PyTreeNode):
    time: jax.Array
    qvel: jax.Array


def _env() -> Env:
    """obs: steps so far; metrics: the action that arrived and the velocity."""

    def reset(key):
        obs, zero, no = jnp.zeros((1,)), jnp.zeros(()), jnp.zeros((), bool)
        metrics = {'action': zero, 'qvel': zero}
        return EnvState(obs, obs, zero, no, no, metrics, key, Sim(zero, jnp.zeros((2,))))

    def step(state, action):
        sim = state.sim.replace(time=state.sim.time + 1)
        obs = sim.time[None]
        metrics = {'action': action[0], 'qvel': jnp.abs(sim.qvel).max()}
        return state.replace(obs=obs, next_obs=obs, metrics=metrics, sim=sim)

    return Env(reset, step, SPEC)


def _run(env, num_steps, num_envs=8):
    """Actions 1, 2, 3...; the states [T, N] after each step, and the first one [N]."""
    env = vectorize.vectorize(env)

    def step(state, t):
        action = jnp.full((num_envs, 1), t, jnp.float32)
        state = env.step(state, action)
        return state, state

    @jax.jit
    def run(keys):
        first = env.reset(keys)
        return first, jax.lax.scan(step, first, jnp.arange(1, num_steps + 1))[1]

    states = run(jax.random.split(jax.random.key(0), num_envs))
    return jax.device_get(tuple(state.replace(key=()) for state in states))


@pytest.mark.parametrize('delay', [1, 3])
def test_actions_arrive_exactly_so_late(delay):
    _, states = _run(disturb.delay_action(_env(), delay, delay), 6)
    wanted = np.maximum(np.arange(1, 7) - delay, 0)
    np.testing.assert_array_equal(states.metrics['action'], np.tile(wanted[:, None], 8))


@pytest.mark.parametrize('delay', [1, 3])
def test_observations_arrive_exactly_so_late(delay):
    first, states = _run(disturb.delay_obs(_env(), delay, delay), 6)
    wanted = np.maximum(np.arange(1, 7) - delay, 0)
    for obs in (states.obs, states.next_obs):
        np.testing.assert_array_equal(obs[..., 0], np.tile(wanted[:, None], 8))
    np.testing.assert_array_equal(first.obs, 0.0)


@pytest.mark.parametrize('make', [disturb.delay_action, disturb.delay_obs])
def test_delays_are_drawn_for_each_episode_and_held_through_it(make):
    first, states = _run(make(_env(), 0, 2), 5, num_envs=64)
    delays = np.asarray(first.sim.delay)
    assert set(delays) == {0, 1, 2}
    np.testing.assert_array_equal(states.sim.delay, np.tile(delays, (5, 1)))


def test_nothing_of_a_queue_survives_a_reset():
    env = time_limit.time_limit(disturb.delay_obs(disturb.delay_action(_env(), 2, 2), 1, 1), 3)
    batch = vectorize.vectorize(env)
    keys = jax.random.split(jax.random.key(0), 4)
    env = auto_reset.auto_reset(batch, jax.jit(batch.reset)(keys))
    state, step = jax.jit(env.reset)(keys), jax.jit(env.step)
    for t in range(1, 5):
        state = step(state, np.full((4, 1), t, np.float32))
        if t == 3:
            assert state.truncation.all()
            np.testing.assert_array_equal(state.next_obs, 2.0)
            np.testing.assert_array_equal(state.obs, 0.0)
    np.testing.assert_array_equal(state.metrics['action'], 0.0)  # not action 2, on its way before


def test_noise_is_seen_and_changes_nothing():
    first, states = _run(disturb.noise_obs(_env(), 0.1), 200)
    error = np.asarray(states.obs[..., 0]) - np.arange(1, 201)[:, None]
    assert 0.09 < error.std() < 0.11 and abs(error.mean()) < 0.01
    assert len(np.unique(error)) > 0.95 * error.size  # but for rounding
    np.testing.assert_array_equal(states.obs, states.next_obs)
    np.testing.assert_array_equal(states.sim.time, np.tile(np.arange(1, 201)[:, None], 8))
    assert (np.asarray(first.obs) != 0).all()


def test_noise_is_drawn_for_each_leaf_and_pictures_have_none():
    def reset(key):
        obs = {'a': jnp.zeros(3), 'b': jnp.zeros(3), 'picture': jnp.zeros((4, 4, 3), jnp.uint8)}
        return _env().reset(key).replace(obs=obs, next_obs=obs)

    env = disturb.noise_obs(Env(reset, _env().step, SPEC), 0.1)
    state = jax.jit(env.reset)(jax.random.key(0))
    assert (state.obs['a'] != state.obs['b']).all() and state.obs['a'].dtype == jnp.float32
    assert state.obs['picture'].dtype == jnp.uint8 and not state.obs['picture'].any()


def test_pushes_change_velocities_only_and_come_at_their_interval():
    first, states = _run(disturb.push(_env(), 4, 0.5), 12, num_envs=64)
    qvel = np.concatenate([np.zeros((1, 64, 2)), states.sim.inner.qvel])
    pushed = (np.diff(qvel, axis=0) != 0).all(-1)  # [T, N]
    assert (pushed.sum(0) == 3).all()
    assert len({tuple(row) for row in pushed.T}) == 4  # every phase
    np.testing.assert_array_equal(pushed[:-4], pushed[4:])
    assert np.abs(np.diff(qvel, axis=0)).max() <= 0.5
    np.testing.assert_array_equal(states.obs[:, 0, 0], np.arange(1, 13))


ALL = disturb.Config((0, 1), (0, 2), 0.01, 5, 0.3)


def test_everything_at_once():
    env = vectorize.vectorize(disturb.apply(_env(), ALL))
    state, step = jax.jit(env.reset)(jax.random.split(jax.random.key(1), 3)), jax.jit(env.step)
    for t in range(1, 12):
        state = step(state, np.full((3, 1), t, np.float32))
    late = 11 - np.asarray(state.metrics['action'])
    assert step._cache_size() == 1 and np.isin(late, [0, 1]).all()
    assert (np.abs(np.asarray(state.obs[:, 0]) - 10) < 1.1).all()
    assert (np.asarray(state.metrics['qvel']) > 0).all()


def test_a_step_of_a_disturbed_robot_keeps_all_shapes_and_types():
    with native.arms():
        env = disturb.apply(reach.make(reach.Config()), ALL)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert jax.eval_shape(env.step, state, jnp.ones(7)) == state


def test_a_push_needs_exactly_one_velocity():
    def reset(key):
        return _env().reset(key).replace(sim=(Sim(jnp.zeros(()), jnp.zeros(2)),) * 2)

    env = disturb.push(Env(reset, _env().step, SPEC), 1, 1.0)
    with pytest.raises(ValueError, match="expected one array 'qvel' in the state, found 2"):
        env.step(env.reset(jax.random.key(0)), jnp.zeros(1))


def test_what_is_hidden_reads_as_zero_and_the_truth_is_kept():
    env = disturb.hide_obs(disturb.noise_obs(truth.remember_truth(_env()), 0.1), [0])
    first, states = _run(time_limit.time_limit(env, 9), 5)
    for obs in (first.obs, states.obs, states.next_obs):
        np.testing.assert_array_equal(obs, 0.0)
    np.testing.assert_array_equal(truth.truth(first), 0.0)
    wanted = np.tile(np.arange(1.0, 6.0)[:, None, None], (8, 1))
    np.testing.assert_array_equal(truth.truth(states), wanted)


def test_only_the_columns_that_are_named_are_hidden():
    spec = SPEC._replace(obs=jax.ShapeDtypeStruct((4,), jnp.float32))

    def reset(key):
        return _env().reset(key).replace(obs=jnp.ones(4), next_obs=jnp.ones(4))

    env = disturb.apply(Env(reset, _env().step, spec), disturb.Config(hidden=(0, 2)))
    np.testing.assert_array_equal(env.reset(jax.random.key(0)).obs, [0, 1, 0, 1])


def test_zeros_are_off():
    env = _env()
    assert disturb.apply(env, disturb.Config()) is env


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (disturb.Config(action_delay=(2, 1)), r'action_delay: expected 0 <= .* found \(2, 1\)'),
        (disturb.Config(obs_delay=(-1, 1)), 'obs_delay'),
        (disturb.Config(obs_noise=-1.0), 'obs_noise: expected 0 or more, found -1'),
        (disturb.Config(push_interval=3), 'push_speed > 0, found 3 and 0'),
        (disturb.Config(hidden=(0, 1)), r'hidden: expected columns in \[0, 1\), found \[1\]'),
    ],
)
def test_bad_numbers_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        disturb.apply(_env(), config)
