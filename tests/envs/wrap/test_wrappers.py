# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""Time limits, batches and resets on an environment that counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.envs.wrap import auto_reset, time_limit, truth, vectorize
from jaxpolicy.types import Env, EnvState, Spec

N = 16


def _counter() -> Env:
    """obs [start, steps]; ends when the action is 1, breaks when it is not finite."""

    def reset(key):
        key, key_start = jax.random.split(key)
        start = jax.random.uniform(key_start, minval=1.0, maxval=2.0)
        obs = jnp.stack([start, jnp.zeros(())])
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {'steps': zero}, key, {'history': obs})

    def step(state, action):
        obs = state.sim['history'] + jnp.stack([jnp.zeros(()), 1.0 + 0.0 * action[0]])
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=obs[1],
            termination=action[0] >= 1.0,
            truncation=jnp.zeros((), bool),
            metrics={'steps': obs[1]},
            sim={'history': obs},
        )

    spec = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
    return Env(reset, step, spec)


def _batch(num_steps: int):
    """The auto-resetting environment, its pool and its first state."""
    env = vectorize.vectorize(time_limit.time_limit(_counter(), num_steps))
    pool = jax.jit(env.reset)(jax.random.split(jax.random.key(7), N))
    env = auto_reset.auto_reset(env, pool)
    env = env._replace(reset=jax.jit(env.reset), step=jax.jit(env.step))
    return env, pool, env.reset(jax.random.split(jax.random.key(8), N))


def _wait(value: float = 0.0) -> jax.Array:
    return jnp.full((N, 1), value)


def test_time_limit_truncates_at_exactly_the_last_step():
    env = time_limit.time_limit(_counter(), 3)
    state, flags = env.reset(jax.random.key(0)), []
    for _ in range(3):
        state = env.step(state, jnp.zeros(1))
        flags.append((bool(state.truncation), bool(state.termination)))
    assert flags == [(False, False), (False, False), (True, False)]


def test_a_termination_at_the_limit_is_no_truncation():
    env = time_limit.time_limit(_counter(), 1)
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    assert bool(state.termination) and not bool(state.truncation)


def test_an_episode_restarts_fresh_and_shows_its_true_end():
    env, pool, state = _batch(3)
    starts = state.obs[:, 0]
    for _ in range(3):
        before, state = state, env.step(state, _wait())
    assert state.truncation.all() and not state.termination.any()
    np.testing.assert_array_equal(state.next_obs, np.stack([starts, np.full(N, 3.0)], axis=1))
    np.testing.assert_array_equal(state.reward, 3.0)
    np.testing.assert_array_equal(state.metrics['steps'], 3.0)
    np.testing.assert_array_equal(before.obs[:, 1], 2.0)
    # a start from the pool, whole: observation, private history and clock
    assert np.isin(state.obs[:, 0], pool.obs[:, 0]).all()
    assert not np.isin(state.obs[:, 0], starts).any()
    np.testing.assert_array_equal(state.obs[:, 1], 0.0)
    np.testing.assert_array_equal(state.sim.inner['history'], state.obs)
    np.testing.assert_array_equal(state.sim.count, 0)
    assert len(np.unique(state.obs[:, 0])) > N // 3
    # and the next episode is as long as the first
    state = env.step(env.step(state, _wait()), _wait())
    assert not state.truncation.any()
    assert env.step(state, _wait()).truncation.all()


def test_episodes_of_one_world_start_differently():
    env, _, state = _batch(1)
    starts = []
    for _ in range(8):
        state = env.step(state, _wait())
        starts.append(np.asarray(state.obs[:, 0]))
    assert min(len(np.unique(world)) for world in np.stack(starts, axis=1)) >= 3


def test_only_the_world_that_ended_restarts():
    env, _, first = _batch(10)
    state = env.step(first, _wait().at[2].set(1.0))
    ended = np.arange(N) == 2
    np.testing.assert_array_equal(state.termination, ended)
    np.testing.assert_array_equal(state.obs[:, 1], np.where(ended, 0.0, 1.0))
    np.testing.assert_array_equal(state.obs[~ended, 0], first.obs[~ended, 0])
    np.testing.assert_array_equal(state.sim.count, np.where(ended, 0, 1))


def test_a_broken_world_is_reset_counted_and_silenced():
    env, _, state = _batch(1)  # it would truncate as well
    state = env.step(state, _wait().at[4].set(jnp.nan))
    broken = np.arange(N) == 4
    np.testing.assert_array_equal(state.metrics['nan_world'], broken)
    np.testing.assert_array_equal(state.termination, broken)
    np.testing.assert_array_equal(state.truncation, ~broken)
    for leaf in jax.tree.leaves((state.obs, state.next_obs, state.reward, state.metrics)):
        assert np.isfinite(leaf).all()
    assert np.isfinite(state.sim.inner['history']).all()
    np.testing.assert_array_equal(state.next_obs[4], 0.0)
    assert float(state.reward[4]) == 0.0
    state = env.step(state, _wait())
    assert not state.metrics['nan_world'].any()


def test_states_keep_their_types_and_keys():
    env, _, state = _batch(2)
    step = jax.jit(env.step)
    after = step(step(state, _wait()), _wait())
    assert step._cache_size() == 1
    assert jax.tree.structure(after) == jax.tree.structure(state)
    keys = np.concatenate([jax.random.key_data(s.key) for s in (state, after)])
    assert len(np.unique(keys, axis=0)) == 2 * N


def test_random_phases_spread_only_the_first_truncation():
    env, _, state = _batch(5)
    state = time_limit.random_phase(state, jax.random.key(3), 5)
    assert set(np.unique(state.sim.count)) == set(range(5))
    lengths, since = [], np.zeros(N, int)
    for _ in range(10):
        state, since = env.step(state, _wait()), since + 1
        lengths += [(n, int(since[n])) for n in np.flatnonzero(state.truncation)]
        since[np.asarray(state.truncation)] = 0
    first = dict(reversed(lengths))
    assert len(set(first.values())) == 5
    seen = set()
    for world, length in lengths:
        assert length == 5 or world not in seen
        seen.add(world)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='at least 1, found 0'):
        time_limit.time_limit(_counter(), 0)
    env = vectorize.vectorize(_counter())
    state = env.reset(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ValueError, match='needs time_limit'):
        time_limit.random_phase(state, jax.random.key(0), 5)


def test_the_truth_starts_anew_with_every_episode():
    env = vectorize.vectorize(time_limit.time_limit(truth.remember_truth(_counter()), 2))
    keys = jax.random.split(jax.random.key(8), N)
    env = auto_reset.auto_reset(env, env.reset(keys))
    state = env.reset(keys)
    for wanted in (1.0, 0.0, 1.0):  # it ends at its second step
        state = env.step(state, _wait())
        np.testing.assert_array_equal(truth.truth(state)[:, 1], wanted)
        np.testing.assert_array_equal(truth.truth(state), state.obs)


def test_a_truth_must_have_been_kept():
    with pytest.raises(ValueError, match='truth needs remember_truth in the env'):
        truth.truth(_counter().reset(jax.random.key(0)))
