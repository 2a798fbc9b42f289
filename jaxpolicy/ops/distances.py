"""How far points lie from a set of points: nearest neighbours and Mahalanobis."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Gaussian(NamedTuple):
    """A mean, and a matrix that makes differences from it independent with variance 1."""

    mean: jax.Array  # [D]
    whiten: jax.Array  # [D, D], difference @ whiten


def nearest(x: jax.Array, reference: jax.Array, k: int, block: int = 256) -> jax.Array:
    """Euclidean distance to the k-th nearest point of a reference set.

    It is computed from squared norms and products, so distances below about 1e-3 of the points' own
    norms are rounding errors.

    Args:
      x: [n, D].
      reference: [m, D], m >= k.
      k: which neighbour, from 1.
      block: how many rows of x are done at a time, with [block, m] numbers in memory.

    Returns:
      [n].

    Raises:
      ValueError: the set has fewer than k points.
    """
    chex.assert_rank([x, reference], 2)
    if not 1 <= k <= len(reference):
        raise ValueError(f'k: expected 1 to {len(reference)} (points), found {k}')
    squares = jnp.sum(reference**2, axis=1)

    def one_block(rows: jax.Array) -> jax.Array:
        product = jnp.matmul(rows, reference.T, precision='highest')
        squared = jnp.sum(rows**2, axis=1, keepdims=True) - 2.0 * product + squares
        return -jax.lax.top_k(-squared, k)[0][:, -1]

    padded = jnp.pad(x, ((0, -len(x) % block), (0, 0))).reshape(-1, block, x.shape[1])
    squared = jax.lax.map(one_block, padded).reshape(-1)[: len(x)]
    return jnp.sqrt(jnp.maximum(squared, 0.0))


def fit_gaussian(x: jax.Array, floor: float) -> Gaussian:
    """Mean and covariance of points, for `mahalanobis`.

    Columns that are linear combinations of others make the covariance singular. So the variance
    along each of its axes counts as at least `floor`. Along an axis without variance, rounding
    errors then add next to nothing to a distance, and a point that leaves the subspace adds much.

    Args:
      x: [n, D], n >= 2.
      floor: the least variance, positive, in squared units of x.
    """
    mean = jnp.mean(x, axis=0)
    centred = x - mean
    covariance = jnp.matmul(centred.T, centred, precision='highest') / (len(x) - 1)
    variances, axes = jnp.linalg.eigh(covariance)
    return Gaussian(mean, axes / jnp.sqrt(jnp.maximum(variances, floor)))


def mahalanobis(x: jax.Array, gaussian: Gaussian) -> jax.Array:
    """The distances sqrt((x - mean)^T covariance^-1 (x - mean)), [n], of points x [n, D]."""
    white = jnp.matmul(x - gaussian.mean, gaussian.whiten, precision='highest')
    return jnp.linalg.norm(white, axis=1)
