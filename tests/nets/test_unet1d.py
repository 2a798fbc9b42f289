import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.nets import unet1d
from tests import weights


@pytest.fixture(params=[0, 128], ids=['rows first', 'weights first'], autouse=True)
def _either_order(request, monkeypatch):
    """Both orders of a CPU's product, at any number of rows."""
    monkeypatch.setattr(unet1d, 'FEW_ROWS', request.param)


def _normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def _reference(params, x):
    """XLA's own convolution, whatever the length."""
    dimensions = ('NWC', 'OWI', 'NWC')
    kernel, bias = params['params']['kernel'], params['params']['bias']
    y = jax.lax.conv_general_dilated(x, kernel, (1,), 'SAME', dimension_numbers=dimensions)
    return y + bias


CASES = [(1, 5), (4, 5), (5, 5), (9, 5), (2, 4), (4, 4)]


@pytest.mark.parametrize('length, kernel_size', CASES)
def test_conv_is_a_convolution_at_every_length(length, kernel_size):
    net = unet1d.Conv1d(features=6, kernel_size=kernel_size)
    rng = np.random.default_rng(0)
    x, weight = _normal(rng, 3, length, 4), _normal(rng, 3, length, 6)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    assert params['params']['kernel'].shape == (6, kernel_size, 4)
    params = weights.random(params)

    @jax.jit
    def both(params, x):
        def loss(f):
            return lambda p, x: jnp.sum(weight * f(p, x) ** 2)

        functions = (net.apply, _reference)
        outputs = [f(params, x) for f in functions]
        return outputs, [jax.grad(loss(f), argnums=(0, 1))(params, x) for f in functions]

    outputs, grads = both(params, x)
    np.testing.assert_allclose(*outputs, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *grads)


def test_a_cpu_gets_no_convolution():
    """XLA's convolutions are slow there, for short sequences and inside loops."""
    net = unet1d.UNet1D(dims=(8, 16), step_embed_dim=8)
    x, condition = np.zeros((1, 4, 2), np.float32), np.zeros((1, 3), np.float32)
    k = np.zeros(1, np.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), x, k, condition)
    assert 'conv_general_dilated' not in str(jax.make_jaxpr(net.apply)(params, x, k, condition))


@pytest.mark.parametrize('length', [1, 2, 5, 8])
@pytest.mark.parametrize(
    'size, stride, padding, dilation', [(3, 2, (1, 1), 1), (4, 1, (2, 2), 2), (5, 3, (0, 4), 2)]
)
def test_strides_and_dilations_are_those_of_a_convolution(length, size, stride, padding, dilation):
    rng = np.random.default_rng(length)
    x, kernel = _normal(rng, 2, length, 3), _normal(rng, 4, size, 3)

    @jax.jit
    def both(x, kernel):
        wanted = jax.lax.conv_general_dilated(
            x, kernel, (stride,), (padding,), (dilation,), dimension_numbers=('NWC', 'OWI', 'NWC')
        )
        return unet1d.convolve(x, kernel, stride, padding, dilation), wanted

    np.testing.assert_allclose(*both(x, kernel), atol=1e-5)


@pytest.mark.parametrize('transform', [lambda f: f, lambda f: jax.vmap(jax.grad(f))])
def test_mish_is_jaxs(transform):
    x = np.float32([*np.linspace(-30.0, 30.0, 601), -1e4, 1e4])
    found = jax.jit(lambda x: [transform(f)(x) for f in (unet1d.mish, jax.nn.mish)])(x)
    np.testing.assert_allclose(*found, rtol=2e-5, atol=1e-6)


def test_upsampling_is_flaxs_transposed_convolution():
    x = _normal(np.random.default_rng(0), 2, 4, 3)
    net = unet1d.Upsample1d()
    params = weights.random(jax.eval_shape(net.init, jax.random.key(1), x))
    theirs = jax.tree.map(lambda a: a.transpose(1, 2, 0) if a.ndim == 3 else a, params)
    other = nn.ConvTranspose(3, (4,), strides=(2,), padding='SAME')
    found = jax.jit(lambda *p: [f.apply(q, x) for f, q in zip((net, other), p, strict=True)])
    np.testing.assert_allclose(*found(params, theirs), atol=1e-5)


def _shapes(net, horizon, action_dim, condition_dim):
    x = np.zeros((2, horizon, action_dim), np.float32)
    k, condition = np.zeros(2, np.int32), np.zeros((2, condition_dim), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x, k, condition)
    return params, jax.eval_shape(net.apply, params, x, k, condition)


def _paper_count(dims, kernel, embed, action_dim, condition_dim):
    """Parameters of the reference network, layer by layer."""

    def dense(a, b):
        return a * b + b

    def conv_block(a, b):
        return kernel * a * b + b + 2 * b  # and the GroupNorm's scale and bias

    def residual(a, b):
        film = dense(embed + condition_dim, 2 * b)
        return conv_block(a, b) + conv_block(b, b) + film + (dense(a, b) if a != b else 0)

    total = dense(embed, 4 * embed) + dense(4 * embed, embed)
    for a, b in zip((action_dim, *dims[:-1]), dims, strict=True):
        total += residual(a, b) + residual(b, b)
    total += 2 * residual(dims[-1], dims[-1])
    for b, a in itertools.pairwise(dims):
        total += residual(2 * a, b) + residual(b, b)
        total += 3 * b * b + b  # downsampling
        total += 4 * b * b + b  # upsampling
    return total + conv_block(dims[0], dims[0]) + dense(dims[0], action_dim)


def test_the_papers_network_has_its_size():
    """Push-T's keypoints: two observations of 20 numbers, and actions of two; 65.8 million."""
    params, output = _shapes(unet1d.UNet1D(), horizon=16, action_dim=2, condition_dim=40)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert output.shape == (2, 16, 2)
    assert count == _paper_count((256, 512, 1024), 5, 256, 2, 40) == 65_783_298


@pytest.mark.parametrize('horizon, dims', [(8, (16, 32)), (4, (16,)), (12, (16, 16, 24))])
def test_shapes_follow_the_chunk(horizon, dims):
    net = unet1d.UNet1D(dims, kernel_size=3, num_groups=4, step_embed_dim=16)
    _, output = _shapes(net, horizon, 3, 7)
    assert output.shape == (2, horizon, 3)


def test_a_horizon_that_does_not_halve_is_refused():
    net = unet1d.UNet1D((16, 16, 16), num_groups=4)
    with pytest.raises(ValueError, match='multiple of 4 for 3 U-Net levels .*found 10'):
        _shapes(net, 10, 2, 4)


def test_the_output_depends_on_every_input():
    net = unet1d.UNet1D((16, 32), kernel_size=3, num_groups=4, step_embed_dim=16)
    rng = np.random.default_rng(0)
    x, condition, k = _normal(rng, 2, 8, 3), _normal(rng, 2, 7), np.array([3, 50], np.int32)
    params = weights.random(jax.eval_shape(net.init, jax.random.key(0), x, k, condition))
    run = jax.jit(net.apply)
    y = run(params, x, k, condition)
    for other in ((x + 1.0, k, condition), (x, k + 9, condition), (x, k, condition + 1.0)):
        assert np.abs(run(params, *other) - y).max() > 1e-3
    # rows of a batch are independent
    swapped = run(params, x[::-1], k[::-1], condition[::-1])[::-1]
    np.testing.assert_allclose(swapped, y, atol=1e-5)
