import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import mip
from jaxpolicy.nets import mlp_denoiser
from jaxpolicy.types import Chunk, Spec
from tests import acting

B, TO, TP, A = 6, 2, 4, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = {'network': 'mlp', 'pred_horizon': TP, 'action_horizon': 2, 'width': 16, 'num_blocks': 1}
RNG = np.random.default_rng(0)


def _make(**fields):
    return mip.make(mip.Config(**CONFIG | {'warmup_updates': 1} | fields), SPEC)


def _batch():
    return Chunk(
        obs=jnp.asarray(RNG.normal(size=(B, TO, 3)), jnp.float32),
        action=jnp.asarray(RNG.uniform(-1, 1, size=(B, TP, A)), jnp.float32),
        mask=jnp.arange(TP) < 1 + jnp.arange(B)[:, None] % TP,
    )


def _wiggle(state):
    """Random weights in place of the initial ones, whose last layer is zero."""
    leaves, structure = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    params = jax.tree.unflatten(structure, moved)
    return state.replace(params=params, target_params=params)


def test_loss_and_actions_by_hand():
    agent, batch, key = _make(t_star=0.8, clip=100.0), _batch(), jax.random.key(5)
    state = _wiggle(jax.jit(agent.init)(jax.random.key(0)))
    _, metrics = jax.jit(agent.update)(state, batch, key)

    def f(x, k):
        return mlp_denoiser.MLPDenoiser(16, 1).apply(
            state.params['policy'], x, jnp.full(B, k), batch.obs.reshape(B, TO, 3)
        )

    first = f(jnp.zeros((B, TP, A)), 100.0)
    z = jax.random.normal(key, (B, TP, A))
    second = f(0.8 * batch.action + 0.2 * z, 20.0)
    mask, action = np.asarray(batch.mask), np.asarray(batch.action)
    for name, output in (('mse', first), ('mse_second', second)):
        expected = ((output - action) ** 2)[mask].mean()
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4)
    chunk, _ = jax.jit(acting.act_of(agent))(state, batch.obs, jax.random.key(0))
    np.testing.assert_allclose(chunk, f(0.8 * first, 20.0), atol=1e-5)
    plain = _make(num_sample_steps=1, clip=100.0)
    chunk, _ = jax.jit(acting.act_of(plain))(state, batch.obs, jax.random.key(0))
    np.testing.assert_allclose(chunk, first, atol=1e-5)


@pytest.mark.parametrize('num_sample_steps', [1, 2])
def test_it_learns_a_function(num_sample_steps):
    agent = _make(num_sample_steps=num_sample_steps, learning_rate=3e-3)
    batch = _batch()
    batch = batch.replace(
        action=jnp.tanh(batch.obs[:, 1:, :2]) * jnp.linspace(0.2, 1.0, TP)[:, None],
        mask=jnp.ones_like(batch.mask),
    )
    state, update = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)
    for i in range(400):
        state, _ = update(state, batch, jax.random.key(i))
    chunk, _ = jax.jit(acting.act_of(agent))(state, batch.obs, jax.random.key(0))
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
