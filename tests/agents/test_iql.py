"""Implicit Q-learning on data whose values and policies have closed forms."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import iql
from jaxpolicy.nets import critics
from jaxpolicy.types import Spec, Transition
from tests import acting

GAMMA, NUM_OBS = 0.9, 3
SPEC = Spec(jax.ShapeDtypeStruct((NUM_OBS,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
CONFIG = iql.Config(hidden=(32,), gamma=GAMMA, tau=0.05, learning_rate=5e-3)


def _batch(rows):
    """(obs, action, reward, next obs or None) -> [1, B]; observations are one-hot."""
    obs, action, reward, following = zip(*rows, strict=True)
    going_on = [0 if n is None else n for n in following]
    ones, seen = np.ones((1, len(rows)), np.float32), np.eye(NUM_OBS, dtype=np.float32)
    return Transition(
        obs=seen[np.array([obs])],
        action=np.float32([action])[..., None],
        reward=np.float32([reward]),
        termination=np.array([[n is None for n in following]]),
        truncation=np.zeros_like(ones, bool),
        next_obs=seen[np.array([going_on])],
        extras={'valid': ones, 'discount': GAMMA * ones},
    )


@functools.cache
def _program():
    """(batch, expectile, beta, actions [3]) -> what is learnt; see `_learn`."""

    def learn(batch, expectile, beta, actions):
        config = dataclasses.replace(CONFIG, expectile=expectile, beta=beta)
        agent = iql.make(config, SPEC)

        def one(state, key):
            return agent.update(state, batch, key)[0], None

        keys = jax.random.split(jax.random.key(1), 1500)
        state = jax.lax.scan(one, agent.init(jax.random.key(0)), keys)[0]
        seen = jnp.eye(NUM_OBS)
        net = critics.Critic(config.hidden, 1, config.activation, config.layer_norm)
        value: Any = net.apply(state.params['value'], seen)
        net = critics.Critics(2, config.hidden, 1, config.activation, config.layer_norm)
        x, done = jnp.repeat(seen, 3, axis=0), jnp.tile(actions, NUM_OBS)[:, None]
        worth: Any = net.apply(state.params['critic'], x, done)
        act = acting.act_of(agent)
        mode, _ = act(state, seen, jax.random.key(0), True)
        sample, _ = act(state, jnp.broadcast_to(seen[0], (4000, NUM_OBS)), jax.random.key(1))
        return value[:, 0], worth.reshape(2, NUM_OBS, 3), mode[:, 0], sample

    return jax.jit(learn)


@pytest.fixture
def learn(monkeypatch):
    """(rows, actions, expectile, beta) -> V [obs], both Q [obs, action], modes [obs], samples at 0.

    One program learns from any ten rows at once; the check of the config cannot compare its numbers
    there.
    """
    monkeypatch.setattr(iql, '_validate', lambda config, spec: None)

    def learn(rows, actions, expectile, beta):
        return jax.device_get(_program()(_batch(rows), expectile, beta, np.float32(actions)))

    return learn


def _expectile(x, level):
    """By its definition: the mean under weights that depend on the side of it."""
    v = x.mean()
    for _ in range(100):
        weight = np.where(x > v, level, 1.0 - level)
        v = (weight * x).sum() / weight.sum()
    return v


ACTIONS, REWARDS, COUNTS = np.array([-0.6, 0.0, 0.7]), np.array([1.0, 0.2, 2.0]), (6, 3, 1)
BANDIT = [
    (0, a, r, None)
    for a, r, n in zip(ACTIONS.tolist(), REWARDS.tolist(), COUNTS, strict=True)
    for _ in range(n)
]


@pytest.mark.parametrize('level,beta', [(0.5, 0.0), (0.5, 2.0), (0.9, 2.0), (0.98, 6.0)])
def test_a_bandit(level, beta, learn):
    """V is the expectile of the rewards, and the policy the data weighed by exp(beta A)."""
    value, worth, mode, sample = learn(BANDIT, ACTIONS, level, beta)
    np.testing.assert_allclose(worth[:, 0], [REWARDS, REWARDS], atol=0.02)
    wanted = _expectile(np.repeat(REWARDS, COUNTS), level)
    np.testing.assert_allclose(value[0], wanted, atol=0.02)
    # the best action brings 2, all others at most 1, and the data hardly has it
    assert (wanted < 0.9) == (level == 0.5) and (wanted > 1.5) == (level > 0.95)
    weight = np.array(COUNTS) * np.exp(np.minimum(beta * (REWARDS - wanted), np.log(100.0)))
    weight /= weight.sum()
    mean = (weight * ACTIONS).sum()
    std = np.sqrt((weight * (ACTIONS - mean) ** 2).sum())
    np.testing.assert_allclose(mode[0], mean, atol=0.02)
    if beta == 0.0:
        np.testing.assert_allclose(mean, -0.29)  # what cloning averages to
    if beta == 6.0:
        assert mean > 0.65
    assert np.abs(sample).max() <= 1.0
    if std < 0.2:  # few samples are clipped
        np.testing.assert_allclose(np.std(sample), std, rtol=0.1, atol=0.01)


# From 0, one episode goes by +0.5 to 1 and errs there, and one ends at once by -0.5 with a little.
# Only an episode from 2 shows what is to be done at 1. No episode does the best from 0.
CHAIN = [
    (0, 0.5, 0.0, 1),
    (1, -0.5, 0.0, None),
    (2, 0.5, 0.0, 1),
    (1, 0.5, 1.0, None),
    (0, -0.5, 0.3, None),
]


def test_parts_of_episodes_are_put_together(learn):
    value, worth, mode, _ = learn(2 * CHAIN, (-0.5, 0.0, 0.5), 0.9, 10.0)
    # the 0.9-expectile of 0 and 1, once each, is 0.9
    np.testing.assert_allclose(value[1], 0.9, atol=0.02)
    np.testing.assert_allclose(worth[:, 0, 2], GAMMA * 0.9, atol=0.02)
    np.testing.assert_allclose(worth[:, 0, 0], 0.3, atol=0.02)
    np.testing.assert_allclose(value[0], 0.9 * 0.81 + 0.1 * 0.3, atol=0.02)
    # exp(10 (0.81 - 0.3)) is 164 to 1, though in the data -0.5 brought more
    assert mode[0] > 0.45 and mode[1] > 0.45
    value, worth, mode, _ = learn(2 * CHAIN, (-0.5, 0.0, 0.5), 0.5, 0.0)
    np.testing.assert_allclose(worth[:, 0, 2], GAMMA * 0.5, atol=0.02)
    np.testing.assert_allclose([mode[0], mode[1]], 0.0, atol=0.02)  # cloning


def test_weights_are_limited_and_teach_the_policy_alone():
    log_prob, advantage = jnp.asarray([-1.0, -2.0, 5.0]), jnp.asarray([0.5, 1e4, 0.0])
    valid = jnp.asarray([1.0, 1.0, 0.0])
    config = iql.Config(beta=2.0, max_weight=100.0)

    def loss_fn(log_prob, advantage):
        return iql.actor_loss(config, log_prob, advantage, valid)[0]

    loss, grads = jax.value_and_grad(loss_fn, argnums=(0, 1))(log_prob, advantage)
    np.testing.assert_allclose(loss, (np.e + 200.0) / 2, rtol=1e-5)
    np.testing.assert_allclose(grads[0], [-np.e / 2, -50.0, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(grads[1], 0.0)


def test_numbers_out_of_range_are_refused():
    spec = Spec(*[jax.ShapeDtypeStruct((1,), jnp.float32)] * 2)
    for config, name in (
        (iql.Config(expectile=1.0), r'agent\.expectile'),
        (iql.Config(beta=-1.0), r'agent\.beta'),
        (iql.Config(tau=0.0), r'agent\.tau'),
    ):
        with pytest.raises(ValueError, match=name):
            iql.make(config, spec)
    discrete = Spec(spec.obs, jax.ShapeDtypeStruct((2,), jnp.int8))
    with pytest.raises(ValueError, match='agent.name: expected an agent for discrete actions'):
        iql.make(iql.Config(), discrete)
