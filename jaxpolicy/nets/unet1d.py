"""The FiLM-conditioned 1-D U-Net of Diffusion Policy (Chi et al., 2023, arXiv:2303.04137).

Convolutions run over the chunk's time axis, [B, Tp, C]. As in the reference network, each level has
two residual blocks, every block is modulated by the condition (observations and noise level), the
lowest level is not downsampled, and there is no weight sharing. Tp must be divisible by
2^(levels - 1).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import embed

# A matrix product on a CPU copies its right-hand matrix into another layout each time. With at most
# so many rows of windows the weights are the larger matrix and go to the left.
FEW_ROWS = 128
_INIT = nn.initializers.lecun_normal(in_axis=(1, 2), out_axis=0)  # of kernels [F, K, C]


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int], dilation: int
) -> jax.Array:
    """Convolution over time, [B, T, C] with a kernel [F, K, C] -> [B, T', F].

    `dilation` spreads the input with zeros before padding, as in a transposed convolution. On a CPU
    the windows are unfolded into one matrix product, since XLA's convolution there is 30 to 240
    times slower when the input is shorter than the kernel, and 5 times slower inside a `lax.scan`.
    The result is that of a convolution either way.
    """
    if jax.default_backend() != 'cpu':
        return jax.lax.conv_general_dilated(
            x, kernel, (stride,), (padding,), (dilation,), dimension_numbers=('NWC', 'OWI', 'NWC')
        )
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*padding, dilation - 1), (0, 0, 0)))
    length = (x.shape[1] - kernel.shape[1]) // stride + 1
    last = (length - 1) * stride + 1
    windows = jnp.stack([x[:, i : i + last : stride] for i in range(kernel.shape[1])], axis=2)
    rows = windows.reshape(x.shape[0] * length, -1)  # [B T', K C]
    weights = kernel.reshape(kernel.shape[0], -1)  # [F, K C]
    if len(rows) > FEW_ROWS:
        y = jax.lax.dot_general(rows, weights, (((1,), (1,)), ((), ())))
    else:
        y = jax.lax.dot_general(weights, rows, (((1,), (1,)), ((), ())))
        y = jax.lax.optimization_barrier(y).T  # else XLA swaps them back
    return y.reshape(x.shape[0], length, -1)


def mish(x: jax.Array) -> jax.Array:
    """x tanh(ln(1 + e^x)) with one exponential: x n / (n + 2), n = e^x (e^x + 2).

    `jax.nn.mish` takes three exponentials and a logarithm.

    Source: Misra, 2019 (arXiv:1908.08681), equation 1.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))  # beyond 20, mish(x) is x in float32
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


class Conv1d(nn.Module):
    """A convolution over time: [B, T, C] -> [B, T, features], or half of T with stride 2."""

    features: int
    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.features, self.kernel_size, x.shape[-1])
        kernel = self.param('kernel', _INIT, shape)
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
        before = (self.kernel_size - 1) // 2
        padding = (before, self.kernel_size - 1 - before)
        return convolve(x, kernel, self.stride, padding, dilation=1) + bias


class Upsample1d(nn.Module):
    """A transposed convolution of kernel 4 and stride 2: [B, T, C] -> [B, 2 T, C]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param('kernel', _INIT, (x.shape[-1], 4, x.shape[-1]))
        bias = self.param('bias', nn.initializers.zeros_init(), (x.shape[-1],))
        return convolve(x, kernel, 1, (2, 2), dilation=2) + bias


class ConvBlock(nn.Module):
    """A convolution, GroupNorm and Mish, one after the other."""

    features: int
    kernel_size: int
    num_groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv1d(self.features, self.kernel_size)(x)
        return mish(nn.GroupNorm(self.num_groups)(x))


class ResidualBlock(nn.Module):
    """Two convolution blocks and a skip connection; after the first block comes FiLM.

    FiLM is scale * x + bias, where `film` [B, 2 F] holds scale and bias.

    Source: Perez et al., 2018 (arXiv:1709.07871), equation 2.
    """

    features: int
    kernel_size: int
    num_groups: int

    @nn.compact
    def __call__(self, x: jax.Array, film: jax.Array) -> jax.Array:
        y = ConvBlock(self.features, self.kernel_size, self.num_groups)(x)
        scale, bias = jnp.split(film[:, None], 2, axis=-1)
        y = ConvBlock(self.features, self.kernel_size, self.num_groups)(scale * y + bias)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features)(x)
        return x + y


class UNet1D(nn.Module):
    """Denoiser of chunks x [B, Tp, A], given levels k [B] or [B, n] and a condition [B, To, D].

    Raises:
      ValueError: Tp is no multiple of 2^(levels - 1).
    """

    dims: Sequence[int] = (256, 512, 1024)
    kernel_size: int = 5
    num_groups: int = 8
    step_embed_dim: int = 256

    @nn.compact
    def __call__(self, x: jax.Array, k: jax.Array, condition: jax.Array) -> jax.Array:
        factor = 2 ** (len(self.dims) - 1)
        if x.shape[1] % factor:
            raise ValueError(
                f'pred_horizon: expected a multiple of {factor} for {len(self.dims)} U-Net levels '
                f'(agent.dims), found {x.shape[1]}'
            )
        action_dim, ups = x.shape[-1], tuple(reversed(self.dims[:-1]))
        step = embed.Levels(4 * self.step_embed_dim, self.step_embed_dim)(k)
        step = nn.Dense(self.step_embed_dim)(mish(step))
        condition = jnp.concatenate([step, condition.reshape(len(x), -1)], axis=-1)
        # One product gives the FiLM of all blocks: two each on the way down, in the middle and up.
        sizes = [2 * dim for dim in (*self.dims, self.dims[-1], *ups) for _ in range(2)]
        films = nn.Dense(sum(sizes))(mish(condition))
        films = iter(jnp.split(films, list(itertools.accumulate(sizes))[:-1], axis=-1))

        def pair(features, x):
            for _ in range(2):
                x = ResidualBlock(features, self.kernel_size, self.num_groups)(x, next(films))
            return x

        skips = []
        for level, features in enumerate(self.dims):
            x = pair(features, x)
            skips.append(x)
            if level < len(self.dims) - 1:
                x = Conv1d(features, 3, stride=2)(x)
        x = pair(self.dims[-1], x)
        for features in ups:
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = Upsample1d()(pair(features, x))
        x = ConvBlock(self.dims[0], self.kernel_size, self.num_groups)(x)
        return nn.Dense(action_dim)(x)


def from_config(config: Any) -> nn.Module:
    """The network of an agent whose Config has the fields of `agents.parts.denoiser.Config`.

    Raises:
      ValueError: there is no level, or the groups do not divide the channels of one.
    """
    if not config.dims or any(dim % config.num_groups for dim in config.dims):
        raise ValueError(
            f'agent.dims: expected multiples of agent.num_groups ({config.num_groups}), at least '
            f'one, found {config.dims}'
        )
    return UNet1D(config.dims, config.kernel_size, config.num_groups)
