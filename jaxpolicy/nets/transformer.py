"""A transformer over the time steps of a chunk.

It is told the noise level and the observations in one of two ways (`conditioning`):

    adaln   one vector, made of noise level and observations, modulates every block: it gives a
            scale and a shift after each norm, and a gate on each branch that is 0 at first. Peebles
            and Xie, 2022 (DiT, arXiv:2212.09748), section 3.2.
    cross   every block attends to the noise level and to each observation as tokens: the
            transformer of Diffusion Policy (Chi et al., 2023, arXiv:2303.04137), section IV-A.

With `causal`, a step of the chunk sees only itself and earlier steps, as in that paper. Blocks are
pre-norm. There is no dropout, as the EMA weights act and the optimiser has weight decay.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import embed

CONDITIONINGS = ('adaln', 'cross')


class Attention(nn.Module):
    """Multi-head attention of x [B, T, C] to `memory` [B, S, C'], which may be x: [B, T, C]."""

    num_heads: int
    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array) -> jax.Array:
        width = x.shape[-1]
        heads = (self.num_heads, width // self.num_heads)
        query = nn.Dense(width)(x).reshape(*x.shape[:2], *heads)
        key, value = jnp.split(nn.Dense(2 * width)(memory), 2, axis=-1)
        key, value = (a.reshape(*memory.shape[:2], *heads) for a in (key, value))
        y = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
        return nn.Dense(width)(y.reshape(x.shape))


class Block(nn.Module):
    """Self-attention, attention to the condition's tokens if there are any, and an MLP.

    If there is a `vector` [B, C], it modulates the block, and the norms have no scale and shift of
    their own.
    """

    num_heads: int
    causal: bool

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array | None, tokens: jax.Array | None):
        width = x.shape[-1]
        zeros = nn.initializers.zeros_init()
        parts = [None] * 6
        if vector is not None:
            modulation = nn.Dense(6 * width, kernel_init=zeros)(nn.silu(vector))[:, None]
            parts = jnp.split(modulation, 6, axis=-1)

        def branch(x, change, shift, scale, gate):
            if shift is None:
                return x + change(nn.LayerNorm()(x))
            y = nn.LayerNorm(use_scale=False, use_bias=False)(x)
            return x + gate * change((1.0 + scale) * y + shift)

        x = branch(x, lambda y: Attention(self.num_heads, self.causal)(y, y), *parts[:3])
        if tokens is not None:
            x = branch(x, lambda y: Attention(self.num_heads)(y, tokens), None, None, None)
        feed = lambda y: nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(y)))  # noqa: E731
        return branch(x, feed, *parts[3:])


class Transformer(nn.Module):
    """Denoiser of chunks x [B, Tp, A], given levels k [B] or [B, n] and a condition [B, To, D].

    Raises:
      ValueError: an unknown conditioning, or a width that the heads do not divide.
    """

    width: int = 256
    num_blocks: int = 8
    num_heads: int = 4
    conditioning: str = 'adaln'
    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, k: jax.Array, condition: jax.Array) -> jax.Array:
        if self.conditioning not in CONDITIONINGS:
            raise ValueError(
                f'agent.conditioning: expected one of {CONDITIONINGS}, found {self.conditioning!r}'
            )
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f'agent.width: expected a multiple of {2 * self.num_heads} for {self.num_heads} '
                f'heads, found {self.width}'
            )
        small = nn.initializers.normal(0.02)
        level = embed.Levels(self.width, self.width)(k)
        y = nn.Dense(self.width)(x)
        y = y + self.param('position', small, (x.shape[1], self.width))
        vector = tokens = None
        if self.conditioning == 'adaln':
            seen = nn.Dense(self.width)(condition.reshape(len(x), -1))
            vector = nn.Dense(self.width)(nn.silu(level + seen))
        else:
            tokens = jnp.concatenate([level[:, None], nn.Dense(self.width)(condition)], axis=1)
            tokens = tokens + self.param('memory', small, tokens.shape[1:])
        for _ in range(self.num_blocks):
            y = Block(self.num_heads, self.causal)(y, vector, tokens)
        zeros = nn.initializers.zeros_init()
        return nn.Dense(x.shape[-1], kernel_init=zeros)(nn.LayerNorm()(y))


def from_config(config: Any) -> nn.Module:
    """The network of an agent whose Config has the fields of `agents.parts.denoiser.Config`."""
    return Transformer(
        config.width, config.num_blocks, config.num_heads, config.conditioning, config.causal
    )
