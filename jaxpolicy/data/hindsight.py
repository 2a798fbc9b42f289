"""Hindsight: what was tried for one goal, replayed as if another one had been meant.

A share of the samples takes as its goal what the same episode reached later, at a step drawn
uniformly from those that are stored (the strategy "future"); rewards are computed anew.

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
    """Steps [n, ...] at and after these places, a share of the places with goals in hindsight.

    Steps after the end of an episode get its goal as well; `buffer.n_step` leaves them out.

    Args:
      share: in [0, 1]; 0.8 in the paper.
      horizon: the most steps of an episode.
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
    """How many steps after these places their episodes go on in the buffer: [...] int32."""
    available = buffer.count[0] - places.time  # steps that are stored, from this one on
    steps = buffer_lib.follow(buffer, places, horizon)
    ended = steps.termination | steps.truncation  # [horizon, ...]
    first = jnp.where(ended.any(0), jnp.argmax(ended, axis=0), horizon - 1)
    return jnp.minimum(first, available - 1).astype(jnp.int32)
