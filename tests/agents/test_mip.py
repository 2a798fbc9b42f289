import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import mip
from jaxpolicy.nets import mlp_denoiser
from jaxpolicy.types import Chunk, Spec
from tests import acting, weights

B, TO, TP, A = 6, 2, 4, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = {
    'network': 'mlp',
    'pred_horizon': TP,
    'action_horizon': 2,
    'width': 16,
    'num_blocks': 1,
    'warmup_updates': 1,
    'learning_rate': 3e-3,
    't_star': 0.8,
    'clip': 100.0,
}
RNG = np.random.default_rng(0)


@functools.cache
def _make(**fields):
    return mip.make(mip.Config(**CONFIG | fields), SPEC)


@functools.cache
def _program():
    """The agent's jitted `init` and `update`, which do not depend on the steps of sampling."""
    agent = _make()
    return jax.jit(agent.init), jax.jit(agent.update)


@functools.cache
def _act(num_sample_steps):
    return jax.jit(acting.act_of(_make(num_sample_steps=num_sample_steps)))


def _batch():
    return Chunk(
        obs=RNG.normal(size=(B, TO, 3)).astype(np.float32),
        action=RNG.uniform(-1, 1, size=(B, TP, A)).astype(np.float32),
        mask=np.arange(TP) < 1 + np.arange(B)[:, None] % TP,
    )


def test_loss_and_actions_by_hand():
    batch, key = _batch(), jax.random.key(5)
    init, update = _program()
    state = init(jax.random.key(0))
    params = weights.random(state.params)  # those of the last layer are zero at first
    state = state.replace(params=params, target_params=params)
    _, metrics = update(state, batch, key)

    @jax.jit
    def f(x, k):
        return mlp_denoiser.MLPDenoiser(16, 1).apply(params['policy'], x, k, batch.obs)

    def network(x, k):
        return np.asarray(f(np.float32(x), np.full(B, k, np.float32)))

    mask, action = batch.mask, batch.action
    first = network(np.zeros((B, TP, A)), 100.0)
    z = np.asarray(jax.random.normal(key, (B, TP, A)))
    second = network(0.8 * action + 0.2 * z, 20.0)
    for name, output in (('mse', first), ('mse_second', second)):
        expected = ((output - action) ** 2)[mask].mean()
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4)
    weighed = 0.25**2 * metrics['mse'] + metrics['mse_second']
    np.testing.assert_allclose(metrics['loss'], weighed, rtol=1e-4)
    chunk, _ = _act(2)(state, batch.obs, jax.random.key(0))
    np.testing.assert_allclose(chunk, network(0.8 * first, 20.0), atol=1e-5)
    chunk, _ = _act(1)(state, batch.obs, jax.random.key(0))
    np.testing.assert_allclose(chunk, first, atol=1e-5)


@functools.cache
def _learnt():
    """A batch of a function, and a state that learnt it."""
    batch = _batch()
    action = np.tanh(batch.obs[:, 1:, :2]) * np.linspace(0.2, 1.0, TP, dtype=np.float32)[:, None]
    batch = batch.replace(action=action, mask=np.ones_like(batch.mask))
    init, update = _program()
    state = init(jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 400):
        state, _ = update(state, batch, key)
    return batch, state


@pytest.mark.parametrize('num_sample_steps', [1, 2])
def test_it_learns_a_function(num_sample_steps):
    batch, state = _learnt()
    chunk, _ = _act(num_sample_steps)(state, batch.obs, jax.random.key(0))
    assert np.abs(chunk - batch.action).max() < 0.1


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'num_sample_steps': 3}, 'agent.num_sample_steps: expected 1 or 2, found 3'),
        ({'t_star': 1.0}, 'agent.t_star: .*found 1.0'),
        ({'network': 'gru'}, r"agent.network: expected one of .*'unet1d'.*found 'gru'"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        _make(**fields)
