"""Embeddings of positions and of noise levels."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def sinusoidal(position: jax.Array, dim: int) -> jax.Array:
    """Sines and cosines of positions [...] at `dim // 2` geometric frequencies: [..., dim].

    Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.5, with sines first.
    """
    half = dim // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / (half - 1))
    angle = position.astype(jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Levels(nn.Module):
    """Embeds noise levels k, one a row [B] or several [B, n], as [B, features].

    The embedding is a linear layer of the first level's sines and cosines. What the other levels
    add is zero at first, so that a network that is told several levels can begin with the weights
    of one that was told a single level.
    """

    features: int
    dim: int  # number of sines and cosines

    @nn.compact
    def __call__(self, k: jax.Array) -> jax.Array:
        k = k.reshape(len(k), -1)
        y = nn.Dense(self.features)(sinusoidal(k[:, 0], self.dim))
        zeros = nn.initializers.zeros_init()
        for i in range(1, k.shape[1]):
            more = nn.Dense(self.features, use_bias=False, kernel_init=zeros)
            y = y + more(sinusoidal(k[:, i], self.dim))
        return y
