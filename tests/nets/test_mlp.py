import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.nets import embed, heads, mlp, mlp_denoiser
from tests import weights


def test_sinusoidal_by_hand():
    found = embed.sinusoidal(jnp.asarray([0, 2]), 4)
    np.testing.assert_allclose(found[0], [0, 0, 1, 1])
    expected = [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)]
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('activation', mlp.ACTIVATIONS)
def test_mlp_by_hand(activation):
    """Leading axes are free; one layer's output is act(x W + b) W' + b'."""
    net = mlp.MLP((6,), 2, activation, output_scale=0.5)
    x = _normal(0, 3, 4, 5)

    @jax.jit
    def run(x):
        params = net.init(jax.random.key(1), x)
        first, last = params['params']['Dense_0'], params['params']['Dense_1']
        expected = mlp.ACTIVATIONS[activation](x @ first['kernel']) @ last['kernel']
        return net.apply(params, x), expected, last['kernel']

    found, expected, kernel = jax.device_get(run(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(kernel.T @ kernel, 0.25 * np.eye(2), atol=1e-5)


def test_gaussian_actor_starts_near_zero_with_the_given_deviation():
    net = heads.GaussianActor((16,), 3, 'elu', init_std=0.6)
    run = jax.jit(lambda x: net.apply(net.init(jax.random.key(1), x), x))
    mean, log_std = jax.device_get(run(_normal(0, 7, 5)))
    assert mean.shape == log_std.shape == (7, 3)
    assert np.abs(mean).max() < 0.1
    np.testing.assert_allclose(np.exp(log_std), 0.6, rtol=1e-6)


def test_denoiser_starts_at_zero_and_uses_every_input():
    net = mlp_denoiser.MLPDenoiser(width=16, num_blocks=1, step_embed_dim=8)
    x, condition, k = _normal(0, 2, 4, 3), _normal(1, 2, 5), np.array([1, 7], np.int32)
    run = jax.jit(net.apply)
    params = jax.jit(net.init)(jax.random.key(0), x, k, condition)
    np.testing.assert_array_equal(run(params, x, k, condition), np.zeros_like(x))
    params = weights.random(params)
    y = np.asarray(run(params, x, k, condition))
    assert y.shape == x.shape
    for other in ((x + 1, k, condition), (x, k + 9, condition), (x, k, condition + 1)):
        assert np.abs(run(params, *other) - y).max() > 1e-3


@pytest.mark.parametrize('transform', [lambda f: f, lambda f: jax.vmap(jax.grad(f))])
def test_elu_is_jaxs_with_its_gradient(transform):
    x = np.linspace(-6.0, 3.0, 91, dtype=np.float32)
    found = jax.jit(lambda x: [transform(f)(x) for f in (mlp.elu, jax.nn.elu)])(x)
    np.testing.assert_allclose(*found, atol=2e-7)
