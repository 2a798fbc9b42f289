"""Inverse dynamics of a linear system, whose inverse is known."""

import functools

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


def _steps(seed, *lead, broken=0.0, idle=False):
    """s' = A s + B a from random s and a, or A s; a share of them broken, and marked so."""
    rng = np.random.default_rng(seed)
    obs = (2.0 + 3.0 * rng.normal(size=(*lead, 2))).astype(np.float32)
    action = rng.uniform(-1.0, 1.0, (*lead, 2)).astype(np.float32)
    valid = (rng.uniform(size=lead) >= broken).astype(np.float32)
    next_obs = obs @ A.T + (0.0 if idle else 1.0) * (action @ B.T)
    return Transition(
        obs=obs,
        action=action,
        reward=np.zeros(lead, np.float32),
        termination=np.zeros(lead, bool),
        truncation=np.zeros(lead, bool),
        next_obs=np.where(valid[..., None] > 0, next_obs, np.nan).astype(np.float32),
        extras={'valid': valid},
    )


@functools.cache
def _program(head):
    """(steps to see [50, 20], batches [200, 10, 64] or fewer) -> (the agent's state, metrics)."""
    agent = inverse_dynamics.make(inverse_dynamics.Config(head=head, **CONFIG), SPEC)

    def learn(seen, batches):
        state = agent.observe(agent.init(jax.random.key(0)), seen)
        return jax.lax.scan(lambda s, b: agent.update(s, b, jax.random.key(0)), state, batches)

    return jax.jit(learn), jax.jit(acting.act_of(agent))


@pytest.mark.parametrize(('head', 'broken'), [('mse', 0.1), ('gaussian', 0.0)])
def test_it_finds_the_inverse(head, broken):
    learn, act = _program(head)
    steps = (_steps(1, 50, 20, broken=broken), _steps(3, 200, 10, 64, broken=broken))
    state, metrics = learn(*steps)
    test = _steps(2, 500)
    found, _ = act(state, (test.obs, test.next_obs), jax.random.key(3), True)
    true = np.linalg.solve(B, (test.next_obs - test.obs @ A.T).T).T
    np.testing.assert_allclose(true, test.action, atol=1e-3)  # the formula is right
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.06  # actions spread by 0.58
    assert np.isfinite(metrics['mse']).all() and state.step == 2000
    assert (head == 'gaussian') == ('nll' in metrics)


def test_samples_are_spread_where_nothing_says_what_was_done():
    """A step that does not depend on the action: its label is the mean, and a guess."""
    learn, act = _program('gaussian')
    state, _ = learn(_steps(1, 50, 20, idle=True), _steps(3, 200, 10, 64, idle=True))
    test = _steps(2, 500, idle=True)
    pair = (test.obs, test.next_obs)
    mean, _ = act(state, pair, jax.random.key(3), True)
    sample, _ = act(state, pair, jax.random.key(3), False)
    assert np.abs(mean).mean() < 0.15
    np.testing.assert_allclose(np.std(sample), 1.0 / np.sqrt(3.0), atol=0.1)


def test_nothing_is_learnt_from_broken_steps():
    learn, _ = _program('mse')
    some = (_steps(1, 50, 20, broken=1.0), _steps(3, 200, 10, 64, broken=1.0))
    none = jax.tree.map(lambda x: x[:0], some[1])
    (before, _), (after, metrics) = jax.jit(learn)(some[0], none), learn(*some)
    assert (metrics['mse'] == 0.0).all() and after.step == 2000
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"agent.head: expected one of .* found 'median'"):
        inverse_dynamics.make(inverse_dynamics.Config(head='median'), SPEC)
    with pytest.raises(ValueError, match='agent.activation'):
        inverse_dynamics.make(inverse_dynamics.Config(activation='step'), SPEC)
    choices = SPEC._replace(action=jax.ShapeDtypeStruct((2,), jnp.int8))
    with pytest.raises(ValueError, match='continuous actions'):
        inverse_dynamics.make(inverse_dynamics.Config(), choices)
