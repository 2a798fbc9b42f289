"""Statistics of scores."""

import chex
import jax
import jax.numpy as jnp


def auroc(score: jax.Array, positive: jax.Array, mask: jax.Array) -> jax.Array:
    """The probability that a positive scores above a negative; ties count half.

    This is the area under the receiver operating characteristic, computed as Mann and Whitney's U.
    Pairs are formed within a stratum only, so that, say, a score gains nothing by growing with
    time. Without any pair it is 0.5.

    Args:
      score, positive (bool), mask (bool): [strata, N]; entries count where the mask holds.
    """
    chex.assert_equal_shape([score, positive, mask])
    x, y = score[:, :, None], score[:, None]
    above = (x > y) + 0.5 * (x == y)
    pair = (positive & mask)[:, :, None] & (~positive & mask)[:, None]
    return jnp.where(pair.any(), jnp.sum(above * pair) / jnp.maximum(pair.sum(), 1), 0.5)


def masked_quantile(x: jax.Array, mask: jax.Array, q: jax.Array | float) -> jax.Array:
    """The q-quantile of the entries of `x` where `mask` holds, interpolated between neighbours.

    It is infinite if there are none, so that nothing is above it.
    """
    chex.assert_equal_shape([x, mask])
    ordered = jnp.sort(jnp.where(mask, x, jnp.inf).reshape(-1))
    position = q * jnp.maximum(mask.sum() - 1, 0)
    below = jnp.floor(position).astype(jnp.int32)
    low, high = ordered[below], ordered[jnp.ceil(position).astype(jnp.int32)]
    share = position - below
    return jnp.where(share > 0, low + share * (high - low), low)
