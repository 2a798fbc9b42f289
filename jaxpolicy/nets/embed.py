"""Embeddings and the flattening of observations."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any


def sinusoidal(position: jax.Array, dim: int) -> jax.Array:
    """Sines and cosines of positions [...] at `dim // 2` geometric frequencies: [..., dim].

    Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.5, with sines first.
    """
    half = dim // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / (half - 1))
    angle = position.astype(jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Levels(nn.Module):
    """Embeds noise levels k [B], or several of them a row, [B, n]: [B, features].

    A linear layer of the first one's sines and cosines; what the others add is zero at first, so
    that a network which is told more can begin with the weights of one that was told one level.
    """

    features: int
    dim: int  # of the sines and cosines

    @nn.compact
    def __call__(self, k: jax.Array) -> jax.Array:
        k = k.reshape(len(k), -1)
        y = nn.Dense(self.features)(sinusoidal(k[:, 0], self.dim))
        zeros = nn.initializers.zeros_init()
        for i in range(1, k.shape[1]):
            more = nn.Dense(self.features, use_bias=False, kernel_init=zeros)
            y = y + more(sinusoidal(k[:, i], self.dim))
        return y


def part(spec_obs: PyTree, field: str, names: tuple[str, ...]) -> PyTree:
    """The specs of the named entries of a dict observation; all of the observation for ().

    Raises:
      ValueError: there are no such entries; `field` of the config asks for them.
    """
    if not names:
        return spec_obs
    if not isinstance(spec_obs, dict):
        raise ValueError(f'agent.{field}: expected (), as observations are no dict, found {names}')
    if unknown := [name for name in names if name not in spec_obs]:
        raise ValueError(f'agent.{field}: expected keys of {sorted(spec_obs)}, found {unknown}')
    return {name: spec_obs[name] for name in names}


def encode(obs: PyTree, spec: PyTree) -> jax.Array:
    """What a network sees: the entries of an observation that `spec` has, as one vector [..., D].

    The only place that knows what observations are made of: an encoder of images belongs here.
    """
    if isinstance(spec, dict):
        obs = {name: obs[name] for name in spec}
    return flatten_obs(obs, spec)


def flatten_obs(obs: PyTree, spec: PyTree) -> jax.Array:
    """Joins the leaves of an observation (each [..., *shape]) into one vector [..., D]."""
    leaves = [
        leaf.reshape(leaf.shape[: leaf.ndim - len(s.shape)] + (-1,))
        for leaf, s in zip(jax.tree.leaves(obs), jax.tree.leaves(spec), strict=True)
    ]
    return jnp.concatenate(leaves, axis=-1)


def history(obs: PyTree, spec: PyTree) -> jax.Array:
    """An observation history (leaves [B, To, *shape]) as one vector a step, [B, To, D]."""
    return flatten_obs(obs, spec)


def flatten_history(obs: PyTree, spec: PyTree) -> jax.Array:
    """Joins an observation history (leaves [B, To, *shape]) into one vector a row, [B, To * D]."""
    flat = flatten_obs(obs, spec)
    return flat.reshape(flat.shape[0], -1)


def obs_dim(spec: PyTree) -> int:
    """D, the number of entries of one observation."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(spec))
