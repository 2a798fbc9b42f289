"""The FiLM-conditioned 1-D U-Net of Diffusion Policy (Chi et al., 2023, arXiv:2303.04137).

Convolutions run over the chunk's time axis, [B, Tp, C]. As in the reference network, each level has
two residual blocks, every block is modulated by the condition (observations and noise level), the
lowest level is not downsampled, and there is no weight sharing. Tp must be divisible by
2^(levels - 1).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import embed


class Conv1d(nn.Module):
    """A 'SAME' convolution over time, [B, T, C] -> [B, T, features].

    On a CPU, XLA's convolution is 30 to 240 times slower than a matrix product when the sequence is
    shorter than the kernel; there, and there only, windows are unfolded into one product. The
    parameters and the result are those of a convolution either way.
    """

    features: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = self.kernel_size
        shape = (size, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
        if x.shape[1] < size and jax.default_backend() == 'cpu':
            left = (size - 1) // 2
            padded = jnp.pad(x, ((0, 0), (left, size - 1 - left), (0, 0)))
            windows = jnp.stack([padded[:, i : i + x.shape[1]] for i in range(size)], axis=2)
            return jnp.einsum('btkc,kcf->btf', windows, kernel) + bias
        return (
            jax.lax.conv_general_dilated(
                x, kernel, (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC')
            )
            + bias
        )


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, Mish."""

    features: int
    kernel_size: int
    num_groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv1d(self.features, self.kernel_size)(x)
        return jax.nn.mish(nn.GroupNorm(self.num_groups)(x))


class ResidualBlock(nn.Module):
    """Two convolution blocks; after the first, FiLM: scale * x + bias from the condition [B, D].

    Source: Perez et al., 2018 (arXiv:1709.07871), equation 2.
    """

    features: int
    kernel_size: int
    num_groups: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        y = ConvBlock(self.features, self.kernel_size, self.num_groups)(x)
        film = nn.Dense(2 * self.features)(jax.nn.mish(condition))[:, None]
        scale, bias = jnp.split(film, 2, axis=-1)
        y = ConvBlock(self.features, self.kernel_size, self.num_groups)(scale * y + bias)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features)(x)
        return x + y


class UNet1D(nn.Module):
    """Denoiser of chunks x [B, Tp, A], given noise levels k [B] and a condition [B, D]."""

    dims: Sequence[int] = (256, 512, 1024)
    kernel_size: int = 5
    num_groups: int = 8
    step_embed_dim: int = 256

    @nn.compact
    def __call__(self, x: jax.Array, k: jax.Array, condition: jax.Array) -> jax.Array:
        factor = 2 ** (len(self.dims) - 1)
        if x.shape[1] % factor:
            raise ValueError(
                f'pred_horizon: expected a multiple of {factor} for {len(self.dims)} U-Net levels, '
                f'found {x.shape[1]}'
            )
        action_dim = x.shape[-1]
        step = embed.sinusoidal(k, self.step_embed_dim)
        step = nn.Dense(self.step_embed_dim)(jax.nn.mish(nn.Dense(4 * self.step_embed_dim)(step)))
        condition = jnp.concatenate([step, condition], axis=-1)

        def block(features, x):
            return ResidualBlock(features, self.kernel_size, self.num_groups)(x, condition)

        skips = []
        for level, features in enumerate(self.dims):
            x = block(features, block(features, x))
            skips.append(x)
            if level < len(self.dims) - 1:
                x = nn.Conv(features, (3,), strides=(2,), padding=((1, 1),))(x)
        x = block(self.dims[-1], block(self.dims[-1], x))
        for features in reversed(self.dims[:-1]):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = block(features, block(features, x))
            x = nn.ConvTranspose(features, (4,), strides=(2,), padding='SAME')(x)
        x = ConvBlock(self.dims[0], self.kernel_size, self.num_groups)(x)
        return nn.Dense(action_dim)(x)
