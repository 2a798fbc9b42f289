"""The forward process: between data and noise, on any Gaussian path.

Conventions, for the whole package: `k` is the noise level and `t` is environment time; x_0 is data
and eps is noise of variance 1. Every path that we use is linear,

    x = signal x_0 + noise eps,

so that a level is three numbers: its signal, its noise, and the `k` that networks are told. In DDPM
signal^2 + noise^2 = 1; in EDM signal = 1; in flow matching signal + noise = 1, and its time, 0 at
noise and 1 at data, is the signal. A sampler needs nothing else: see `samplers`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array | np.ndarray


class Level(struct.PyTreeNode):
    """Noise levels; the leaves have one shape, [], [B] or, for a grid of S steps, [S + 1]."""

    signal: Any  # the factor of x_0, 0 to 1
    noise: Any  # the factor of eps
    k: Any  # what the network is told, about 100 at noise and 0 at data


def each(level: Level, like: jax.Array) -> Level:
    """Levels [B] with axes of size 1 added, so that they broadcast over `like`, [B, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape + (1,) * (like.ndim - x.ndim)), level)


def add_noise(x0: jax.Array, eps: jax.Array, level: Level) -> jax.Array:
    """x at `level`, which broadcasts against x0."""
    return level.signal * x0 + level.noise * eps


def to_eps(x0: jax.Array, x: jax.Array, level: Level) -> jax.Array:
    """The noise that leads from x_0 to x."""
    return (x - level.signal * x0) / level.noise


def start(eps: jax.Array, grid: Level) -> jax.Array:
    """Where sampling begins: the noise of the grid's first level, around x_0 = 0."""
    return jnp.asarray(grid.noise[0]) * eps
