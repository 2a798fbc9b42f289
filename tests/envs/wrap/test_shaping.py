"""Shaped rewards: what they sum to, and that optimal policies stay what they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.envs.wrap import auto_reset, shaping, time_limit, vectorize
from jaxpolicy.types import Env, EnvState, Spec

S, A, GAMMA = 8, 3, 0.9  # the last state is terminal
SEEDS = range(20)


def _tables(seed):
    """Where each action leads, and what it brings: [S, A] each."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(0, S, (S, A))), jnp.asarray(
        rng.normal(size=(S, A)), jnp.float32
    )


def _mdp(after, reward) -> Env:
    """obs [] int32; the start is given by the key; actions are one-hot."""

    def reset(key):
        obs = (jax.random.key_data(key)[-1] % S).astype(jnp.int32)
        zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {'state': zero}, key, obs)

    def step(state, action):
        choice = jnp.argmax(action)
        obs = after[state.sim, choice].astype(jnp.int32)
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=reward[state.sim, choice],
            termination=obs == S - 1,
            metrics={'state': obs.astype(jnp.float32)},
            sim=obs,
        )

    spec = Spec(jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((A,), jnp.int8))
    return Env(reset, step, spec)


def _best(after, reward):
    """The best action of each state but the terminal one, by value iteration; reward [S, A]."""
    after, going_on = np.asarray(after), np.asarray(after) != S - 1
    q = np.zeros((S, A))
    for _ in range(400):
        q = np.asarray(reward, np.float64) + GAMMA * going_on * q.max(axis=1)[after]
    return q[:-1].argmax(axis=1)


def _rewards(env):
    """What the env pays for every action in every state: [S, A]."""
    keys = jax.vmap(jax.random.key)(jnp.arange(S))
    states = jax.vmap(env.reset)(keys)
    each = jax.vmap(jax.vmap(env.step, in_axes=(None, 0)), in_axes=(0, None))
    return each(states, jnp.eye(A, dtype=jnp.int8)).reward


def _potential(seed):
    phi = np.random.default_rng(100 + seed).normal(scale=3.0, size=S)
    phi[-1] = abs(phi[-1]) + 5.0  # an end that looks attractive
    return jnp.asarray(phi, jnp.float32)


def test_optimal_policies_stay_the_same_whatever_the_potential():
    @jax.jit
    def both(after, reward, phi):
        env = _mdp(after, reward)
        return _rewards(env), _rewards(shaping.shape_reward(env, lambda obs: phi[obs], GAMMA))

    other_bonus, no_end = 0, 0
    for seed in SEEDS:
        (after, reward), phi = _tables(seed), _potential(seed)
        plain, shaped = both(after, reward, phi)
        np.testing.assert_array_equal(plain, reward)
        wanted = _best(after, plain)
        assert np.abs(shaped - reward).max() > 1.0
        np.testing.assert_array_equal(_best(after, shaped), wanted)
        # a bonus for the next state alone, and a potential of terminal states, do change them
        bonus = np.asarray(reward) + GAMMA * np.asarray(phi)[np.asarray(after)]
        other_bonus += (_best(after, bonus) != wanted).any()
        ended = bonus - np.asarray(phi)[:, None]
        no_end += (_best(after, ended) != wanted).any()
    assert other_bonus > len(SEEDS) / 2
    assert no_end > len(SEEDS) / 4


@pytest.mark.parametrize('gamma', [GAMMA, 1.0])
def test_the_rewards_of_an_episode_telescope(gamma):
    """sum gamma^t r' = sum gamma^t r - phi(s_0) + gamma^T phi(s_T), the last of which a true end
    does not have.
    """
    after = jnp.asarray([[1, 2, 1]] * (S - 1) + [[S - 1] * A]).at[2].set(S - 1)
    reward, phi = _tables(0)[1], _potential(0)
    plain = time_limit.time_limit(_mdp(after, reward), 3)
    shaped = shaping.shape_reward(_mdp(after, reward), lambda obs: phi[obs], gamma)
    shaped = time_limit.time_limit(shaped, 3)
    for choices, ends in (((0, 0, 2), 'truncation'), ((2, 1, 0), 'termination')):
        sums = []
        for env in (plain, shaped):
            state, total = env.reset(jax.random.key(0)), 0.0
            for t, choice in enumerate(choices):
                state = env.step(state, jax.nn.one_hot(choice, A))
                total += gamma**t * float(state.reward)
                if state.termination | state.truncation:
                    break
            assert bool(getattr(state, ends))
            sums.append((total, t + 1, int(state.next_obs)))
        (total, length, last), (found, *_) = sums
        left = 0.0 if ends == 'termination' else gamma**length * float(phi[last])
        np.testing.assert_allclose(found, total - float(phi[0]) + left, atol=1e-5)


def test_a_new_episode_begins_with_its_own_potential():
    after = jnp.asarray([[1] * A] * S)
    phi = jnp.arange(S, dtype=jnp.float32) + 1.0
    env = shaping.shape_reward(_mdp(after, jnp.zeros((S, A))), lambda obs: phi[obs], 1.0)
    env = vectorize.vectorize(time_limit.time_limit(env, 2))
    pool = env.reset(jax.vmap(jax.random.key)(jnp.array([5])))
    env = auto_reset.auto_reset(env, pool)
    state = env.reset(jax.vmap(jax.random.key)(jnp.array([3])))
    rewards, step = [], jax.jit(env.step)
    for _ in range(4):
        state = step(state, jnp.zeros((1, A)).at[:, 0].set(1))
        rewards.append(float(state.reward[0]))
    # 3 -> 1 -> 1, then anew 5 -> 1 -> 1; the env's own reward stays in the metrics
    assert rewards == [-2.0, 0.0, -4.0, 0.0]
    assert float(state.metrics['task_reward'][0]) == 0.0


def test_what_is_seen_further_out_does_not_matter():
    """A transform outside that hides the observation: the potential is of what is true."""
    after, reward = _tables(1)
    phi = _potential(1)
    env = shaping.shape_reward(_mdp(after, reward), lambda obs: phi[obs], GAMMA)

    def step(state, action):
        state = env.step(state, action)
        return state.replace(obs=jnp.zeros_like(state.obs), next_obs=jnp.zeros_like(state.obs))

    hidden = Env(lambda key: env.reset(key).replace(obs=jnp.zeros((), jnp.int32)), step, env.spec)
    np.testing.assert_array_equal(_rewards(hidden), _rewards(env))
