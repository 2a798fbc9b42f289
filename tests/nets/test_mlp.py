import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.nets import embed, heads, mlp, mlp_denoiser


def test_sinusoidal_by_hand():
    found = embed.sinusoidal(jnp.asarray([0, 2]), 4)
    np.testing.assert_allclose(found[0], [0, 0, 1, 1])
    expected = [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)]
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


@pytest.mark.parametrize('activation', mlp.ACTIVATIONS)
def test_mlp_by_hand(activation):
    """Leading axes are free; one layer's output is act(x W + b) W' + b'."""
    net = mlp.MLP((6,), 2, activation, output_scale=0.5)
    x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    params = net.init(jax.random.key(1), x)
    first, last = params['params']['Dense_0'], params['params']['Dense_1']
    expected = mlp.ACTIVATIONS[activation](x @ first['kernel']) @ last['kernel']
    np.testing.assert_allclose(net.apply(params, x), expected, atol=1e-5)
    gram = last['kernel'].T @ last['kernel']
    np.testing.assert_allclose(gram, 0.25 * np.eye(2), atol=1e-5)


def test_gaussian_actor_starts_near_zero_with_the_given_deviation():
    net = heads.GaussianActor((16,), 3, 'elu', init_std=0.6)
    x = jax.random.normal(jax.random.key(0), (7, 5))
    params = net.init(jax.random.key(1), x)
    mean, log_std = net.apply(params, x)
    assert mean.shape == log_std.shape == (7, 3)
    assert np.abs(mean).max() < 0.1
    np.testing.assert_allclose(np.exp(log_std), 0.6, rtol=1e-6)


def test_denoiser_starts_at_zero_and_uses_every_input():
    net = mlp_denoiser.MLPDenoiser(width=16, num_blocks=1, step_embed_dim=8)
    keys = jax.random.split(jax.random.key(0), 4)
    x, condition = jax.random.normal(keys[0], (2, 4, 3)), jax.random.normal(keys[1], (2, 5))
    k = jnp.asarray([1, 7])
    run = jax.jit(net.apply)
    params = jax.jit(net.init)(keys[2], x, k, condition)
    np.testing.assert_array_equal(run(params, x, k, condition), np.zeros_like(x))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(keys[3], p.shape), params)
    y = run(params, x, k, condition)
    assert y.shape == x.shape
    for other in ((x + 1.0, k, condition), (x, k + 9, condition), (x, k, condition + 1.0)):
        assert np.abs(run(params, *other) - y).max() > 1e-3


def test_elu_is_jaxs_with_its_gradient():
    x = jnp.linspace(-6.0, 3.0, 91)
    np.testing.assert_allclose(mlp.elu(x), jax.nn.elu(x), atol=2e-7)
    found, wanted = (jax.vmap(jax.grad(f))(x) for f in (mlp.elu, jax.nn.elu))
    np.testing.assert_allclose(found, wanted, atol=2e-7)
