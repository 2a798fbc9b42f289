import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import diffusion_policy
from jaxpolicy.diffusion import schedules
from jaxpolicy.nets import mlp
from jaxpolicy.types import Chunk, Spec

B, TO, TP, A, K = 6, 2, 4, 2, 10
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = {
    'network': 'mlp',
    'obs_horizon': TO,
    'pred_horizon': TP,
    'action_horizon': 2,
    'width': 16,
    'num_blocks': 1,
    'warmup_steps': 1,
    'num_train_steps': K,
    'num_sample_steps': 3,
    'learning_rate': 0.01,
}
RNG = np.random.default_rng(0)


def _make(**fields):
    return diffusion_policy.make(diffusion_policy.Config(**CONFIG | fields), SPEC)


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
    return state.replace(params=jax.tree.unflatten(structure, moved))


@pytest.mark.parametrize('target', ['eps', 'x0', 'v'])
def test_the_loss_is_the_equation(target):
    """Noise, network and target by hand, over the steps that are not padding."""
    agent, batch, key = _make(target=target), _batch(), jax.random.key(5)
    state = _wiggle(jax.jit(agent.init)(jax.random.key(0)))
    _, metrics = jax.jit(agent.update)(state, batch, key)

    k_key, eps_key = jax.random.split(key)
    k = jax.random.randint(k_key, (B,), 0, K)
    eps = np.asarray(jax.random.normal(eps_key, (B, TP, A)))
    alpha_bar = schedules.squared_cosine(K)[k][:, None, None]
    x0, mask = np.asarray(batch.action), np.asarray(batch.mask)
    x_k = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
    net = mlp.MLPDenoiser(16, 1)
    output = net.apply(state.params['denoiser'], x_k, k, batch.obs.reshape(B, -1))
    v = np.sqrt(alpha_bar) * eps - np.sqrt(1 - alpha_bar) * x0
    error = (output - {'eps': eps, 'x0': x0, 'v': v}[target]) ** 2
    np.testing.assert_allclose(metrics['mse'], error[mask].mean(), rtol=1e-4)


def test_padded_targets_do_not_count():
    """The untrained network says 0, so that the loss is the mean square of the real actions.

    Padded actions, noised, are still inputs: the chunk is denoised as a whole.
    """
    agent, batch = _make(target='x0'), _batch()
    state, update = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)
    new, metrics = update(state, batch, jax.random.key(1))
    square = np.asarray(batch.action)[np.asarray(batch.mask)] ** 2
    np.testing.assert_allclose(metrics['mse'], square.mean(), rtol=1e-5)
    garbage = jnp.where(batch.mask[..., None], batch.action, 7.0)
    other, with_garbage = update(state, batch.replace(action=garbage), jax.random.key(1))
    assert with_garbage['mse'] == metrics['mse']
    # no gradient reaches the outputs for steps that are padding in every row
    nowhere = batch.replace(mask=batch.mask & (jnp.arange(TP) < 2))
    state, _ = update(update(state, nowhere, jax.random.key(2))[0], nowhere, jax.random.key(3))
    last = state.params['denoiser']['params']['ResidualMLP_0']['Dense_3']
    kernel, bias = (np.asarray(last[name]) for name in ('kernel', 'bias'))
    np.testing.assert_array_equal(bias.reshape(TP, A)[2:], 0.0)
    np.testing.assert_array_equal(kernel.reshape(-1, TP, A)[:, 2:], 0.0)
    assert np.abs(bias.reshape(TP, A)[:2]).min() > 0


def test_nothing_but_padding_moves_nothing():
    agent, batch = _make(weight_decay=0.0), _batch()
    state, update = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)
    empty = batch.replace(mask=jnp.zeros_like(batch.mask))
    new = state
    for i in range(2):
        new, metrics = update(new, empty, jax.random.key(i))
        assert metrics['mse'] == 0.0
    jax.tree.map(np.testing.assert_array_equal, new.params, state.params)


def test_the_ema_averages_updated_weights_and_acts():
    agent, batch = _make(sampler='ddim', target='x0'), _batch()
    state, update = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)
    first, _ = update(state, batch, jax.random.key(1))
    second, _ = update(first, batch, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, first.target_params, first.params)
    weight = 2**-0.75
    jax.tree.map(
        lambda old, new, p: np.testing.assert_allclose(
            new, old + weight * (p - old), rtol=1e-5, atol=1e-7
        ),
        first.target_params,
        second.target_params,
        second.params,
    )
    act = jax.jit(agent.act)
    action, _ = act(second, batch.obs, jax.random.key(2))
    without, _ = act(second.replace(params=state.params), batch.obs, jax.random.key(2))
    np.testing.assert_array_equal(action, without)
    other, _ = act(second.replace(target_params=state.params), batch.obs, jax.random.key(2))
    assert np.abs(other - action).max() > 1e-4


@pytest.mark.parametrize('sampler', diffusion_policy.SAMPLERS)
def test_actions_are_clipped_samples(sampler):
    """Untrained eps = 0 makes x_0 = x_K / sqrt(alpha_bar), which is huge without the clip."""
    agent, obs = _make(sampler=sampler, clip=0.5), _batch().obs
    state, act = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.act)
    action, _ = act(state, obs, jax.random.key(1))
    np.testing.assert_allclose(np.abs(action).max(), 0.5, atol=1e-6)
    other, _ = act(state, obs, jax.random.key(2))
    assert (action != other).any()  # another key, another sample


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'network': 'gru'}, r"agent.network: expected one of .*'unet1d'.*found 'gru'"),
        ({'target': 'score'}, r"agent.target: expected one of .*'eps'.*found 'score'"),
        ({'schedule': 'cosine'}, r"agent.schedule: .*'squared_cosine'.*found 'cosine'"),
        ({'sampler': 'euler'}, r"agent.sampler: .*'ddim'.*found 'euler'"),
        ({'sampler': 'ddim', 'num_sample_steps': K + 1}, rf'expected 1 to {K} .*found {K + 1}'),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        _make(**fields)
