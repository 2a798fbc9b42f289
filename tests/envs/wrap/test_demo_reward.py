# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""Ordered coverage as a reward: by hand, Markov, and new with every episode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.envs.tasks import pendulum
from jaxpolicy.envs.wrap import auto_reset, disturb, time_limit, vectorize
from jaxpolicy.envs.wrap import demo_reward as coverage
from jaxpolicy.loops import off_policy, rollout
from jaxpolicy.ops import coverage as coverage_ops
from jaxpolicy.types import Env, EnvState, Spec

N, LIMIT = 4, 6
FRAMES = np.array([[1.0], [2.0], [4.0]], np.float32)
ONES = np.ones(1, np.float32)


def _place() -> Env:
    """Each action moves one number, which begins at 0; the reward is what it was."""

    def reset(key):
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        return EnvState(zero[None], zero[None], zero, no, no, {}, key, zero)

    def step(state, action):
        place = state.sim + action[0]
        return state.replace(
            obs=place[None], next_obs=place[None], reward=state.sim, metrics={}, sim=place
        )

    one = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Env(reset, step, Spec(one, one))


def _walk(frames=FRAMES):
    return coverage.imitate(_place(), frames, (), ONES, 2.0)


def _swing(**config):
    env = pendulum.make(pendulum.Config(**config))
    frames = np.array([[-1.0, 0.0], [0.0, 4.0], [1.0, 0.0]], np.float32)
    return coverage.imitate(env, frames, (0, 2), np.array([1.0, 4.0], np.float32), 1.0)


def test_rewards_by_hand():
    env = _walk()
    state, rewards, seen, own = env.reset(jax.random.key(0)), [], [], []
    for action in (1.0, 1.0, 1.0, 1.0, -1.0):  # at 1, 2, 3, 4, 3
        state = env.step(state, jnp.array([action]))
        rewards.append(float(state.reward))
        seen.append(np.asarray(state.obs))
        own.append(float(state.metrics['task_reward']))
    e = lambda distance: np.exp(-distance / 2.0)  # noqa: E731
    # frames 1 and 2 are covered from the second step on; before, they cost one step of 1
    expected = [e(1) * e(3), e(2), e(1), 1.0, e(1)]
    np.testing.assert_allclose(rewards, expected, rtol=1e-5)
    np.testing.assert_allclose(seen[0], [1.0, 1.0, e(1)], rtol=1e-5)
    np.testing.assert_allclose(seen[1], [2.0, 1.0, 1.0], rtol=1e-5)
    assert own == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert env.spec.obs.shape == (3,)


def test_the_first_observation_counts():
    state = _walk(np.array([[0.0], [1.0]], np.float32)).reset(jax.random.key(0))
    np.testing.assert_allclose(state.obs, [0.0, 1.0])
    assert float(state.reward) == 0.0


def test_one_frame_needs_no_memory():
    env = _walk(FRAMES[-1:])
    assert env.spec.obs.shape == (1,)
    state = env.step(env.reset(jax.random.key(0)), jnp.array([1.0]))
    np.testing.assert_allclose(state.reward, np.exp(-3.0 / 2.0), rtol=1e-6)


def test_it_keeps_every_type_and_compiles_once():
    env = time_limit.time_limit(disturb.apply(_swing(), disturb.Config(obs_delay=(0, 2))), 9)
    types = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)  # noqa: E731
    first = jax.eval_shape(env.reset, jax.random.key(0))
    then = jax.eval_shape(env.step, first, jnp.zeros(1))
    assert types(then) == types(first) and first.obs.shape == env.spec.obs.shape
    step, state = jax.jit(env.step), jax.jit(env.reset)(jax.random.key(0))
    for _ in range(3):
        state = step(state, jnp.zeros(1))
    assert step._cache_size() == 1


@functools.cache
def _episodes():
    env = vectorize.vectorize(time_limit.time_limit(_swing(), LIMIT))

    @jax.jit
    def run(key):
        keys = jax.random.split(key, N)
        auto = auto_reset.auto_reset(env, env.reset(keys))
        policy = off_policy.random_policy(env.spec)
        return rollout.rollout(auto, policy, auto.reset(keys), (), key, 3 * LIMIT)

    return run(jax.random.key(0))


def test_coverage_starts_anew_with_every_episode():
    """Each episode's rewards are those of its own states alone."""
    _, _, batch, metrics = _episodes()
    assert np.asarray(batch.truncation)[LIMIT - 1 :: LIMIT].all()
    frames = jnp.array([[-1.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
    for begin in range(0, 3 * LIMIT, LIMIT):
        episode = jax.tree.map(lambda x: x[begin : begin + LIMIT], batch)
        states = jnp.concatenate([episode.obs[:1], episode.next_obs])[..., jnp.array([0, 2])]
        covered = coverage_ops.ordered(
            coverage_ops.visits(states, frames, jnp.array([1.0, 4.0]), 1.0)
        )
        np.testing.assert_allclose(episode.reward, covered[1:, :, -1], rtol=2e-5)
        np.testing.assert_allclose(episode.next_obs[..., 3:], covered[1:, :, :-1], rtol=2e-5)
        np.testing.assert_allclose(episode.obs[..., 3:], covered[:-1, :, :-1], rtol=2e-5)
    assert np.isfinite(batch.reward).all() and (np.asarray(metrics['task_reward']) < 0).any()


def test_the_task_goes_on_as_without():
    """The same states, success and own reward, whatever is rewarded."""
    plain, env = pendulum.make(pendulum.Config()), _swing()
    a, b = plain.reset(jax.random.key(0)), env.reset(jax.random.key(0))
    for action in (0.5, -1.0, 1.0):
        a, b = (e.step(s, jnp.array([action])) for e, s in ((plain, a), (env, b)))
        np.testing.assert_array_equal(a.obs, b.obs[:3])
        assert float(a.reward) == float(b.metrics['task_reward'])
        assert float(a.metrics['success']) == float(b.metrics['success'])


@pytest.mark.parametrize(
    ('frames', 'columns', 'scale', 'temperature', 'message'),
    [
        (FRAMES, (1,), ONES, 1.0, r'columns in \[0, 1\)'),
        (np.ones((3, 2)), (), ONES, 1.0, 'frames of 1 columns'),
        (np.ones((0, 1)), (), ONES, 1.0, 'frames of 1 columns'),
        (FRAMES, (), np.ones(2), 1.0, '1 positive numbers'),
        (FRAMES, (), np.zeros(1), 1.0, '1 positive numbers'),
        (FRAMES, (), ONES, 0.0, 'temperature: expected more than 0'),
    ],
)
def test_what_does_not_fit_is_refused(frames, columns, scale, temperature, message):
    with pytest.raises(ValueError, match=message):
        coverage.imitate(_place(), frames, columns, scale, temperature)
