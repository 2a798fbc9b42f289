"""Losses as functions of arrays; each returns (loss, metrics)."""

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import types

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

    `weight` [B] makes rows of the loss count more or less; the metric mse is without weights.
    """
    chex.assert_equal_shape([prediction, target])
    error = jnp.mean((prediction - target) ** 2, axis=-1)
    mse = masked_mean(error, mask)
    loss = mse if weight is None else masked_mean(error * weight[:, None], mask)
    return loss, {'mse': mse}


def policy_gradient(log_prob: jax.Array, advantage: jax.Array, mask: jax.Array) -> Loss:
    """-E[A log pi(a | s)], whose gradient is the policy gradient; no gradient flows into A.

    All arrays have the same shape.

    Source: Sutton et al., 2000, theorem 1, with a baseline.
    """
    chex.assert_equal_shape([log_prob, advantage, mask])
    loss = -masked_mean(jax.lax.stop_gradient(advantage) * log_prob, mask)
    return loss, {'policy_loss': loss}


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
    """Half the squared error to returns, and the explained variance as a metric. All are [B]."""
    chex.assert_equal_shape([value, target, mask])
    loss = 0.5 * masked_mean((value - target) ** 2, mask)
    variance = masked_mean((target - masked_mean(target, mask)) ** 2, mask)
    return loss, {'explained_variance': 1.0 - 2.0 * loss / jnp.maximum(variance, 1e-8)}


def expectile(value: jax.Array, target: jax.Array, level: float, mask: jax.Array) -> Loss:
    """E[|level - 1(u < 0)| u^2], u = target - value; no gradient flows into the target.

    The minimum is at the expectile of the targets: their mean for level 0.5, and close to their
    largest for a level close to 1. All arrays are [B].

    Args:
      level: in (0, 1).
    Source: Kostrikov et al., 2021 (arXiv:2110.06169), section 4.1 and equation 5.
    """
    chex.assert_equal_shape([value, target, mask])
    error = jax.lax.stop_gradient(target) - value
    weight = jnp.where(error < 0, 1.0 - level, level)
    loss = masked_mean(weight * error**2, mask)
    return loss, {'expectile_loss': loss}


def silence(batch: types.Transition) -> types.Transition:
    """Sets all numbers of invalid steps to 0: 0 * NaN is NaN, so a mask alone is not enough."""
    valid = batch.extras['valid']

    def keep(x):
        return jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)) > 0, x, 0)

    kept = (batch.obs, batch.next_obs, batch.action, batch.reward, batch.extras)
    obs, next_obs, action, reward, extras = jax.tree.map(keep, kept)
    return batch.replace(obs=obs, next_obs=next_obs, action=action, reward=reward, extras=extras)
