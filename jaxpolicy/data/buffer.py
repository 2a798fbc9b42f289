"""Replay: a ring of transitions on the device, and n-step samples from it.

Rows are worlds, so that a buffer is cut over devices as its environments are. Next observations
are stored as they were, before any reset, and not read from the next slot: the last one of an
episode is true. Two observations and an action a step are most of its memory; `num_bytes` says it.

An n-step sample adds up rewards until an episode ends, or n steps are over:

    reward = sum_{i < m} gamma^i r_{t + i},  discount = gamma^m,

with next_obs and termination of step t + m - 1, and m = n, or less where a step terminates or
truncates before. It begins where n steps follow in the order in which they were added, so that none
reaches across the ring's seam.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.types import Key, Spec, Transition


class Buffer(struct.PyTreeNode):
    """The last `min(count, C)` steps of each of N worlds."""

    rows: Transition  # leaves [N, C, ...]; of extras only 'valid'
    count: jax.Array  # [N] int32, steps added to each world, the same for all


class Places(struct.PyTreeNode):
    """Where samples begin: [...] int32 each."""

    world: jax.Array
    time: jax.Array  # steps since the first one added; slot time % C


def make(spec: Spec, num_worlds: int, capacity: int) -> Buffer:
    """An empty buffer of `capacity` slots a world."""

    def zeros(shape, dtype=jnp.float32):
        return jnp.zeros((num_worlds, capacity, *shape), dtype)

    obs = jax.tree.map(lambda s: zeros(s.shape, s.dtype), spec.obs)
    rows = Transition(
        obs=obs,
        action=zeros(spec.action.shape, spec.action.dtype),
        reward=zeros(()),
        termination=zeros((), bool),
        truncation=zeros((), bool),
        next_obs=jax.tree.map(jnp.copy, obs),
        extras={'valid': zeros(())},
    )
    return Buffer(rows, jnp.zeros((num_worlds,), jnp.int32))


def num_bytes(spec: Spec, num_worlds: int, capacity: int) -> int:
    """The memory of a buffer."""
    shapes = jax.eval_shape(lambda: make(spec, num_worlds, capacity))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def add(buffer: Buffer, batch: Transition) -> Buffer:
    """Appends a rollout [T, N], T at most C; the oldest steps make room."""
    length, capacity = batch.reward.shape[0], buffer.rows.reward.shape[1]
    batch = batch.replace(extras={'valid': batch.extras['valid']}, memory=())
    slot = (buffer.count[0] + jnp.arange(length)) % capacity

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[:, slot].set(jnp.moveaxis(new, 0, 1).astype(old.dtype))

    rows = jax.tree.map(write, buffer.rows, batch)
    return buffer.replace(rows=rows, count=buffer.count + length)


def draw(buffer: Buffer, key: Key, shape: tuple[int, ...], num: int = 1) -> Places:
    """Places that are followed by `num` steps, uniformly, with replacement.

    There must be as many steps in the buffer.
    """
    num_worlds, capacity = buffer.rows.reward.shape
    world_key, time_key = jax.random.split(key)
    count = buffer.count[0]
    oldest = jnp.maximum(count - capacity, 0)
    world = jax.random.randint(world_key, shape, 0, num_worlds)
    time = jax.random.randint(time_key, shape, oldest, count - num + 1)
    return Places(world, time)


def take(buffer: Buffer, places: Places) -> Transition:
    """The steps at these places, [...]."""
    slot = places.time % buffer.rows.reward.shape[1]
    return jax.tree.map(lambda x: x[places.world, slot], buffer.rows)


def follow(buffer: Buffer, places: Places, num: int) -> Transition:
    """The steps at and after these places, [num, ...]; time within the ring only."""
    offset = jnp.arange(num).reshape(-1, *[1] * places.time.ndim)
    world = jnp.broadcast_to(places.world, (num, *places.world.shape))
    return take(buffer, Places(world, places.time + offset))


def n_step(steps: Transition, gamma: float) -> Transition:
    """Consecutive steps [n, ...] as one [...], see the module; extras has discount and valid.

    Source: Sutton and Barto, 2018, equation 7.1, with the trace cut where an episode ends.
    """
    ended = (steps.termination | steps.truncation).astype(jnp.int32)
    before = jnp.cumsum(ended, axis=0) - ended  # ends before this step
    alive = (before == 0).astype(jnp.float32)
    factor = gamma ** jnp.arange(len(steps.reward), dtype=jnp.float32)
    factor = factor.reshape(-1, *[1] * (steps.reward.ndim - 1))
    last = jnp.sum(alive, axis=0).astype(jnp.int32) - 1  # [...]

    def at_last(x: jax.Array) -> jax.Array:
        index = last.reshape(1, *last.shape, *[1] * (x.ndim - 1 - last.ndim))
        return jnp.take_along_axis(x, index, axis=0)[0]

    valid = jnp.where(alive > 0, steps.extras['valid'], 1.0)
    return Transition(
        obs=jax.tree.map(lambda x: x[0], steps.obs),
        action=steps.action[0],
        reward=jnp.sum(factor * alive * steps.reward, axis=0),
        termination=at_last(steps.termination),
        truncation=at_last(steps.truncation),
        next_obs=jax.tree.map(at_last, steps.next_obs),
        extras={
            'valid': jnp.min(valid, axis=0),
            'discount': at_last(jnp.broadcast_to(factor, steps.reward.shape)) * gamma,
        },
    )


def sample(buffer: Buffer, key: Key, shape: tuple[int, ...], num: int, gamma: float) -> Transition:
    """n-step samples, leaves [*shape, ...], drawn uniformly, with replacement."""
    return n_step(follow(buffer, draw(buffer, key, shape, num), num), gamma)


def from_episodes(episodes: episodes_lib.Episodes) -> Buffer:
    """Demonstrations with rewards as a full buffer of one world, on the default device.

    Raises:
      ValueError: the file has no rewards.
    """
    reward = episodes.reward
    if reward is None or episodes.termination is None or episodes.last_obs is None:
        raise ValueError(
            "data.path: expected episodes with 'reward', 'termination' and 'last_obs', as "
            'experiments.collect writes them; found none'
        )
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
    return Buffer(rows, jnp.full((1,), len(reward), jnp.int32))
