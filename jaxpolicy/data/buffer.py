"""Replay: a ring of transitions on the device, and n-step samples from it.

Each row belongs to one world, so that the buffer can be split over devices in the same way as its
environments. The buffer stores each next observation as it was before any reset. Reading it from
the next slot instead would give a wrong one at the end of an episode. Two observations and an
action per step take up most of the memory; `num_bytes` tells how much.

An n-step sample adds up rewards until the episode ends or n steps are over:

    reward = sum_{i < m} gamma^i r_{t + i},  discount = gamma^m,

where m is n, or less if a step terminates or truncates before; next_obs and termination are those
of step t + m - 1. A sample begins only at a step that is followed by the rest of its n steps in the
order in which they were added. So no sample reaches from the newest step on to the oldest one.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.types import Key, Spec, Transition


class Buffer(struct.PyTreeNode):
    """The last `min(count, C)` steps of each of N worlds."""

    rows: Transition  # leaves [N, C, ...]; of extras only 'valid'
    count: jax.Array  # [N] int32, steps added to each world, the same for all


class Places(struct.PyTreeNode):
    """The steps at which samples begin; both arrays are [...] int32."""

    world: jax.Array
    time: jax.Array  # counts from the first step ever added; the step lies in slot time % C


def make(spec: Spec, num_worlds: int, capacity: int) -> Buffer:
    """Makes an empty buffer with `capacity` slots for each world."""

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
    """The memory in bytes that a buffer of this size takes."""
    shapes = jax.eval_shape(lambda: make(spec, num_worlds, capacity))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def add(buffer: Buffer, batch: Transition) -> Buffer:
    """Appends a rollout [T, N], T at most C, in place of the oldest steps."""
    length, capacity = batch.reward.shape[0], buffer.rows.reward.shape[1]
    batch = batch.replace(extras={'valid': batch.extras['valid']}, carry=())
    slot = (buffer.count[0] + jnp.arange(length)) % capacity

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[:, slot].set(jnp.moveaxis(new, 0, 1).astype(old.dtype))

    rows = jax.tree.map(write, buffer.rows, batch)
    return buffer.replace(rows=rows, count=buffer.count + length)


def draw(buffer: Buffer, key: Key, shape: tuple[int, ...], num: int = 1) -> Places:
    """Draws places uniformly, with replacement, among those where `num` stored steps begin.

    The buffer must hold at least `num` steps of each world.
    """
    num_worlds, capacity = buffer.rows.reward.shape
    world_key, time_key = jax.random.split(key)
    count = buffer.count[0]
    oldest = jnp.maximum(count - capacity, 0)
    world = jax.random.randint(world_key, shape, 0, num_worlds)
    time = jax.random.randint(time_key, shape, oldest, count - num + 1)
    return Places(world, time)


def take(buffer: Buffer, places: Places) -> Transition:
    """Reads the steps at these places, leaves [...]."""
    slot = places.time % buffer.rows.reward.shape[1]
    return jax.tree.map(lambda x: x[places.world, slot], buffer.rows)


def follow(buffer: Buffer, places: Places, num: int) -> Transition:
    """Reads `num` consecutive steps from each place on, leaves [num, ...].

    The buffer must still hold all of these steps.
    """
    offset = jnp.arange(num).reshape(-1, *[1] * places.time.ndim)
    world = jnp.broadcast_to(places.world, (num, *places.world.shape))
    return take(buffer, Places(world, places.time + offset))


def n_step(steps: Transition, gamma: float) -> Transition:
    """Joins n consecutive steps [n, ...] into one n-step transition [...], see the module.

    Its extras are 'discount' and 'valid'.

    Source: Sutton and Barto, 2018, equation 7.1, with the trace cut where an episode ends.
    """
    ended = (steps.termination | steps.truncation).astype(jnp.int32)
    before = jnp.cumsum(ended, axis=0) - ended  # how many ends lie before this step
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
    """Draws n-step samples uniformly, with replacement; leaves [*shape, ...]."""
    return n_step(follow(buffer, draw(buffer, key, shape, num), num), gamma)
