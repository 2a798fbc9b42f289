"""Hindsight: steps that were taken towards one goal are replayed as if another goal had been meant.

A share of the samples gets as its goal what the same episode reached later, at a step that is drawn
uniformly from the stored ones (the strategy "future"). Their rewards are computed anew.

Source: Andrychowicz et al., 2017 (arXiv:1707.01495), sections 3.2 and 4.5.
"""

import jax
import jax.numpy as jnp

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.types import Goals, Key, Transition


def relabel(
    buffer: buffer_lib.Buffer,
    places: buffer_lib.Places,
    steps: Transition,
    key: Key,
    goals: Goals,
    share: float,
    horizon: int,
) -> Transition:
    """Gives a share of the samples a goal that their own episode reached later.

    Steps of a sample beyond the end of its episode get the new goal too; `buffer.n_step` ignores
    them.

    Args:
      places: [...], where the samples begin.
      steps: leaves [n, ...], the n steps from each place on.
      share: the share of samples with a new goal, in [0, 1]; 0.8 in the paper.
      horizon: the largest number of steps in an episode.

    Returns:
      The steps, with observations and rewards for the new goals.
    """
    which_key, future_key = jax.random.split(key)
    left = last_of_episode(buffer, places, horizon)
    offset = jax.random.randint(future_key, left.shape, 0, left + 1)
    future = buffer_lib.take(buffer, places.replace(time=places.time + offset))
    chosen = jax.random.bernoulli(which_key, share, left.shape)[..., None]  # [..., 1]
    goal = jnp.where(chosen, goals.achieved(future.next_obs), goals.wanted(steps.obs)[0])
    obs, next_obs = goals.replace(steps.obs, goal), goals.replace(steps.next_obs, goal)
    reward = jnp.where(chosen[..., 0], goals.reward(next_obs), steps.reward)
    return steps.replace(obs=obs, next_obs=next_obs, reward=reward)


def last_of_episode(
    buffer: buffer_lib.Buffer, places: buffer_lib.Places, horizon: int
) -> jax.Array:
    """How many more steps of its episode the buffer holds after each place: [...] int32."""
    available = buffer.count[0] - places.time  # stored steps, this one included
    steps = buffer_lib.follow(buffer, places, horizon)
    ended = steps.termination | steps.truncation  # [horizon, ...]
    first = jnp.where(ended.any(0), jnp.argmax(ended, axis=0), horizon - 1)
    return jnp.minimum(first, available - 1).astype(jnp.int32)
