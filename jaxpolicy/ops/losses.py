"""Losses as functions of arrays; each returns (loss, metrics)."""

import chex
import jax
import jax.numpy as jnp

Loss = tuple[jax.Array, dict[str, jax.Array]]


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the entries of `x` where `mask` is 1; 0 if there are none."""
    chex.assert_equal_shape([x, mask])
    mask = mask.astype(x.dtype)
    return jnp.sum(x * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def masked_normalize(x: jax.Array, mask: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Zero mean and unit variance over the unmasked entries; masked entries become 0."""
    mean = masked_mean(x, mask)
    std = jnp.sqrt(masked_mean((x - mean) ** 2, mask))
    return (x - mean) / (std + epsilon) * mask


def chunk_mse(
    prediction: jax.Array, target: jax.Array, mask: jax.Array, weight: jax.Array | None = None
) -> Loss:
    """Squared error [B, Tp, A], averaged over the steps that are not padding (mask [B, Tp]).

    `weight` [B] makes rows of the loss count more or less; the metric is without it.
    """
    chex.assert_equal_shape([prediction, target])
    error = jnp.mean((prediction - target) ** 2, axis=-1)
    mse = masked_mean(error, mask)
    loss = mse if weight is None else masked_mean(error * weight[:, None], mask)
    return loss, {'mse': mse}


def ppo_clip(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, clip: float, mask: jax.Array
) -> Loss:
    """The clipped surrogate, negated: -E[min(r A, clip(r, 1 - c, 1 + c) A)].

    Args: log_prob, old_log_prob, advantage, mask: [B]; clip: c > 0.
    Source: Schulman et al., 2017 (arXiv:1707.06347), equation 7.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage, mask])
    ratio = jnp.exp(log_prob - old_log_prob)
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    clipped = (jnp.abs(ratio - 1.0) > clip).astype(jnp.float32)
    return -masked_mean(surrogate, mask), {
        'ratio': masked_mean(ratio, mask),
        'clip_fraction': masked_mean(clipped, mask),
    }


def value_mse(value: jax.Array, target: jax.Array, mask: jax.Array) -> Loss:
    """Half the squared error to the lambda-returns; also the explained variance. All [B]."""
    chex.assert_equal_shape([value, target, mask])
    loss = 0.5 * masked_mean((value - target) ** 2, mask)
    variance = masked_mean((target - masked_mean(target, mask)) ** 2, mask)
    return loss, {'explained_variance': 1.0 - 2.0 * loss / jnp.maximum(variance, 1e-8)}
