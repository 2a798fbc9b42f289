"""Returns and advantages over time-major arrays [T, ...]."""

import chex
import jax
import jax.numpy as jnp


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    termination: jax.Array,
    truncation: jax.Array,
    gamma: float,
    lambda_: float,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Generalised advantage estimation.

    delta_t = r_t + gamma (1 - termination_t) V(next_obs_t) - V(obs_t)
    A_t = delta_t + gamma lambda (1 - termination_t) (1 - truncation_t) A_{t+1}

    A truncated step bootstraps from the value of the observation that it truly led to, and the
    trace is cut there.

    Args:
      reward, value, termination, truncation: [T, ...].
      next_value: [T, ...], the value of `next_obs`, before any reset.
      gamma: discount in [0, 1].
      lambda_: trace decay in [0, 1]; 1 is Monte Carlo, 0 is one-step TD.
      valid: [T, ...] of 0 or 1; the advantage of an invalid step is 0 and adds to no other.

    Returns:
      advantages [T, ...]; `advantages + value` are the lambda-returns.

    Source: Schulman et al., 2016 (arXiv:1506.02438), equations 11-16.
    """
    chex.assert_equal_shape([reward, value, next_value, termination, truncation])
    valid = jnp.ones_like(reward) if valid is None else valid
    delta = reward + gamma * (1.0 - termination) * next_value - value
    decay = gamma * lambda_ * (1.0 - termination) * (1.0 - truncation)

    def backward(advantage, inputs):
        delta_t, decay_t, valid_t = inputs
        advantage = valid_t * (delta_t + decay_t * advantage)
        return advantage, advantage

    _, advantages = jax.lax.scan(
        backward, jnp.zeros_like(value[0]), (delta, decay, valid), reverse=True
    )
    return advantages


def monte_carlo(
    reward: jax.Array,
    next_value: jax.Array,
    termination: jax.Array,
    truncation: jax.Array,
    gamma: float,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns to go of the episodes that end within T steps.

    G_t = r_t + gamma G_{t+1} within an episode. At its end G_{t+1} is 0 if it terminated, and
    V(next_obs_t) if it was truncated, as the task would go on. Unless an episode ends with the last
    of the T steps, what follows is not known, and neither is the return of a step that leads to it.

    Args:
      reward, termination, truncation: [T, ...].
      next_value: [T, ...], the value of `next_obs`, before any reset.
      gamma: discount in [0, 1].
      valid: [T, ...] of 0 or 1; the returns of an invalid step, and of the steps of its episode
        that lead up to it, are not known.

    Returns:
      (returns [T, ...], known [T, ...] of 0 or 1); a return that is not known is 0.

    Source: Sutton and Barto, 2018, section 13.3.
    """
    chex.assert_equal_shape([reward, next_value, termination, truncation])
    valid = jnp.ones_like(reward) if valid is None else valid
    ended = jnp.maximum(termination, truncation)
    beyond = (1.0 - termination) * next_value

    def backward(later, inputs):
        value, known = later
        reward_t, beyond_t, ended_t, valid_t = inputs
        known = valid_t * jnp.where(ended_t > 0, 1.0, known)
        value = known * (reward_t + gamma * jnp.where(ended_t > 0, beyond_t, value))
        return (value, known), (value, known)

    start = (jnp.zeros_like(reward[0]), jnp.zeros_like(reward[0]))
    _, found = jax.lax.scan(backward, start, (reward, beyond, ended, valid), reverse=True)
    return found
