"""Demonstrations with rewards as a replay buffer."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.data import buffer
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.types import Transition


def from_episodes(episodes: episodes_lib.Episodes) -> buffer.Buffer:
    """Puts demonstrations with rewards into a full buffer of one world, on the default device.

    Raises:
      ValueError: the episodes lack rewards, terminations or last observations.
    """
    reward = episodes.reward
    known = ('reward', 'termination', 'last_obs')
    if missing := [name for name in known if getattr(episodes, name) is None]:
        raise ValueError(
            f'data.path: expected episodes with {known}, as `collect` writes them; '
            f'found no {missing}'
        )
    assert reward is not None and episodes.termination is not None
    ended = np.zeros(len(reward), bool)
    ended[np.asarray(episodes.episode_ends) - 1] = True
    termination = episodes.termination > 0

    def row(x: np.ndarray) -> jax.Array:
        return jnp.asarray(x)[None]

    rows = Transition(
        obs=jax.tree.map(row, episodes.obs),
        action=row(episodes.action),
        reward=row(reward),
        termination=row(termination),
        truncation=row(ended & ~termination),
        next_obs=jax.tree.map(row, episodes_lib.next_obs(episodes)),
        extras={'valid': jnp.ones((1, len(reward)))},
    )
    return buffer.Buffer(rows, jnp.full((1,), len(reward), jnp.int32))
