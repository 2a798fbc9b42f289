"""Normalisers: affine maps of pytrees, fitted to data or tracked while learning.

A dimension that does not vary keeps scale 1, so it is shifted to 0 and never divided by zero.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

PyTree = Any


class Affine(struct.PyTreeNode):
    """x -> (x - shift) / scale, leaf by leaf."""

    shift: PyTree
    scale: PyTree


def identity(spec: PyTree) -> Affine:
    """The normaliser that changes nothing, shaped as `spec` (a pytree with `.shape` leaves)."""
    return Affine(
        shift=jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), spec),
        scale=jax.tree.map(lambda s: jnp.ones(s.shape, jnp.float32), spec),
    )


def fit_min_max(data: PyTree, epsilon: float = 1e-4) -> Affine:
    """Maps the range of each dimension of `data` (leaves [n, ...]) to [-1, 1]."""

    def shift(x):
        return (jnp.min(x, axis=0) + jnp.max(x, axis=0)) / 2.0

    def scale(x):
        half = (jnp.max(x, axis=0) - jnp.min(x, axis=0)) / 2.0
        return jnp.where(half > epsilon, half, 1.0)

    return Affine(shift=jax.tree.map(shift, data), scale=jax.tree.map(scale, data))


def apply(affine: Affine, x: PyTree, clip: float | None = None) -> PyTree:
    """(x - shift) / scale, clipped to +-clip if given; leading axes broadcast."""

    def one(leaf, shift, scale):
        leaf = (leaf.astype(jnp.float32) - shift) / scale
        return leaf if clip is None else jnp.clip(leaf, -clip, clip)

    return jax.tree.map(one, x, affine.shift, affine.scale)


def invert(affine: Affine, x: PyTree) -> PyTree:
    """shift + scale x."""
    return jax.tree.map(
        lambda leaf, shift, scale: shift + scale * leaf, x, affine.shift, affine.scale
    )


class Welford(struct.PyTreeNode):
    """Running mean and sum of squared deviations, mergeable in batches."""

    count: jax.Array  # [] float32
    mean: PyTree
    m2: PyTree


def welford(spec: PyTree) -> Welford:
    """No samples yet; acts as the identity until it has seen two."""
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), spec)
    return Welford(count=jnp.zeros((), jnp.float32), mean=zeros, m2=jax.tree.map(jnp.copy, zeros))


def update(stats: Welford, batch: PyTree, mask: jax.Array) -> Welford:
    """Merges a batch (leaves [..., *shape]) whose entries with mask [...] 0 do not count.

    Source: Chan, Golub and LeVeque, 1983, the pairwise update.
    """
    num_new = jnp.sum(mask)
    count = stats.count + num_new
    axes = tuple(range(mask.ndim))

    def weight(x):
        return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)).astype(jnp.float32)

    def new_mean(x):
        return jnp.sum(weight(x) * x, axis=axes) / jnp.maximum(num_new, 1.0)

    def new_m2(x, mean):
        return jnp.sum(weight(x) * (x - mean) ** 2, axis=axes)

    batch_mean = jax.tree.map(new_mean, batch)
    batch_m2 = jax.tree.map(new_m2, batch, batch_mean)
    fraction = num_new / jnp.maximum(count, 1.0)
    mean = jax.tree.map(lambda a, b: a + (b - a) * fraction, stats.mean, batch_mean)
    m2 = jax.tree.map(
        lambda a, b, ma, mb: a + b + (mb - ma) ** 2 * stats.count * fraction,
        stats.m2,
        batch_m2,
        stats.mean,
        batch_mean,
    )
    return Welford(count=count, mean=mean, m2=m2)


def affine(stats: Welford, epsilon: float = 1e-4) -> Affine:
    """Zero mean and unit variance under the statistics so far."""

    def scale(m2):
        std = jnp.sqrt(m2 / jnp.maximum(stats.count, 1.0))
        return jnp.where(std > epsilon, std, 1.0)

    return Affine(shift=stats.mean, scale=jax.tree.map(scale, stats.m2))
