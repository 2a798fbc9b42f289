"""Inverse dynamics of a linear system, whose inverse is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import inverse_dynamics
from jaxpolicy.types import Spec, Transition
from tests import acting

A = np.array([[1.0, 0.1], [-0.2, 0.9]], np.float32)
B = np.array([[0.0, 0.02], [0.05, 0.0]], np.float32)  # small, as steps of control are
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32))
CONFIG = {'hidden': (32,), 'learning_rate': 3e-3}


def _steps(key, *lead, broken=0.0):
    """s' = A s + B a from random s and a; a share of them broken, and marked so."""
    obs_key, action_key, valid_key = jax.random.split(key, 3)
    obs = 2.0 + 3.0 * jax.random.normal(obs_key, (*lead, 2))
    action = jax.random.uniform(action_key, (*lead, 2), minval=-1.0)
    valid = (jax.random.uniform(valid_key, lead) >= broken).astype(jnp.float32)
    next_obs = obs @ A.T + action @ B.T
    zeros = jnp.zeros(lead)
    return Transition(
        obs=obs,
        action=action,
        reward=zeros,
        termination=zeros > 0,
        truncation=zeros > 0,
        next_obs=jnp.where(valid[..., None] > 0, next_obs, jnp.nan),
        extras={'valid': valid},
    )


def _learn(config, broken=0.0, updates=2000):
    agent = inverse_dynamics.make(config, SPEC)
    key = jax.random.key(0)
    state = agent.observe(agent.init(key), _steps(jax.random.key(1), 50, 20, broken=broken))

    @jax.jit
    def run(state):
        def update(state, key):
            return agent.update(state, _steps(key, 10, 64, broken=broken), key)

        return jax.lax.scan(update, state, jax.random.split(key, updates // 10))

    state, metrics = run(state)
    return agent, state, metrics


@pytest.mark.parametrize(('head', 'broken'), [('mse', 0.1), ('gaussian', 0.0)])
def test_it_finds_the_inverse(head, broken):
    agent, state, metrics = _learn(inverse_dynamics.Config(head=head, **CONFIG), broken)
    test = _steps(jax.random.key(2), 500)
    found, _ = acting.act_of(agent)(state, (test.obs, test.next_obs), jax.random.key(3), True)
    true = np.linalg.solve(B, np.asarray(test.next_obs - test.obs @ A.T).T).T
    np.testing.assert_allclose(true, test.action, atol=1e-3)  # the formula is right
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.06  # actions spread by 0.58
    assert np.isfinite(metrics['mse']).all() and state.step == 2000
    assert (head == 'gaussian') == ('nll' in metrics)


def test_samples_are_spread_where_nothing_says_what_was_done():
    """A step that does not depend on the action: its label is the mean, and a guess."""
    config = inverse_dynamics.Config(head='gaussian', **CONFIG)
    agent = inverse_dynamics.make(config, SPEC)

    def steps(key, *lead):
        batch = _steps(key, *lead)
        return batch.replace(next_obs=batch.obs @ A.T)

    state = agent.observe(agent.init(jax.random.key(0)), steps(jax.random.key(1), 50, 20))
    update = jax.jit(agent.update)
    for i in range(20):
        state, _ = update(state, steps(jax.random.key(i), 10, 64), jax.random.key(0))
    test = steps(jax.random.key(2), 500)
    pair = (test.obs, test.next_obs)
    mean, _ = acting.act_of(agent)(state, pair, jax.random.key(3), True)
    sample, _ = acting.act_of(agent)(state, pair, jax.random.key(3), False)
    assert np.abs(mean).mean() < 0.15
    np.testing.assert_allclose(np.std(sample), 1.0 / np.sqrt(3.0), atol=0.1)


def test_nothing_is_learnt_from_broken_steps():
    agent = inverse_dynamics.make(inverse_dynamics.Config(**CONFIG), SPEC)
    state = agent.init(jax.random.key(0))
    broken = _steps(jax.random.key(1), 4, 8, broken=1.0)
    state = agent.observe(state, broken)
    after, metrics = agent.update(state, broken, jax.random.key(2))
    assert float(metrics['mse']) == 0.0 and after.step == 4
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"agent.head: expected one of .* found 'median'"):
        inverse_dynamics.make(inverse_dynamics.Config(head='median'), SPEC)
    with pytest.raises(ValueError, match='agent.activation'):
        inverse_dynamics.make(inverse_dynamics.Config(activation='step'), SPEC)
    choices = SPEC._replace(action=jax.ShapeDtypeStruct((2,), jnp.int8))
    with pytest.raises(ValueError, match='continuous actions'):
        inverse_dynamics.make(inverse_dynamics.Config(), choices)
