"""Normalisers: affine maps of pytrees, fitted to data or tracked while learning.

A dimension that does not vary keeps scale 1, so it is shifted to 0 and never divided by zero.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    """Maps the range of each dimension of `data` (leaves [n, ...], of any dtype) to [-1, 1].

    The data are arrays with values, which the host looks through once.
    """

    def ends(x):  # as float32: the sum of two uint8 may not be a uint8
        return (f(np.asarray(x), axis=0).astype(np.float32) for f in (np.min, np.max))

    def shift(x):
        low, high = ends(x)
        return jnp.asarray((low + high) / np.float32(2.0))

    def scale(x):
        low, high = ends(x)
        half = (high - low) / np.float32(2.0)
        return jnp.asarray(np.where(half > epsilon, half, np.float32(1.0)))

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
    """Running mean and variance, mergeable in batches.

    A float32 count is exact up to 2^24 and stops growing at about 2^24 batches. Nothing goes wrong
    then, as only the ratio of the batch to the count matters: the statistics become averages over
    that many batches. (A running sum of squares would go on growing, and the variance with it.)
    """

    count: jax.Array  # [] float32
    mean: PyTree
    variance: PyTree


def welford(spec: PyTree) -> Welford:
    """Statistics of no samples yet; they normalise as the identity until they have seen two."""
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), spec)
    return Welford(
        count=jnp.zeros((), jnp.float32), mean=zeros, variance=jax.tree.map(jnp.copy, zeros)
    )


def update(stats: Welford, batch: PyTree, mask: jax.Array) -> Welford:
    """Merges a batch (leaves [..., *shape]) into the statistics, where `mask` [...] is 1.

    Entries where it is 0 do not count and may be anything, even NaN.

    Source: Chan, Golub and LeVeque, 1983, the pairwise update.
    """
    num_new = jnp.sum(mask)
    count = stats.count + num_new
    fraction = num_new / jnp.maximum(count, 1.0)
    axes = tuple(range(mask.ndim))

    def mean_of(x):
        weight = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.sum(jnp.where(weight > 0, x, 0.0), axis=axes) / jnp.maximum(num_new, 1.0)

    def variance(old, mean, new_mean, x):
        new = mean_of((x - new_mean) ** 2)
        return old + (new - old) * fraction + (new_mean - mean) ** 2 * fraction * (1.0 - fraction)

    means = jax.tree.map(mean_of, batch)
    return Welford(
        count=count,
        mean=jax.tree.map(lambda a, b: a + (b - a) * fraction, stats.mean, means),
        variance=jax.tree.map(variance, stats.variance, stats.mean, means, batch),
    )


def affine(stats: Welford, epsilon: float = 1e-4) -> Affine:
    """The normaliser to zero mean and unit variance under the statistics so far."""

    def scale(variance):
        std = jnp.sqrt(variance)
        return jnp.where(std > epsilon, std, 1.0)

    return Affine(shift=stats.mean, scale=jax.tree.map(scale, stats.variance))
