"""Prioritised replay: which steps of a buffer surprised the critic, and samples in proportion.

A step of priority p is drawn with probability P ~ p^exponent, and counts with the weight
(num P)^-beta over the largest one of the batch. New steps have the largest priority that there is.
Drawing adds up all priorities each time, on the device: no tree of sums, and no host.

Source: Schaul et al., 2016 (arXiv:1511.05952), equations 1 and section 3.4.
"""

import math

import jax
import jax.numpy as jnp

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.types import Key

EPSILON = 1e-3  # of the errors, so that no step is lost for good


def make(num_worlds: int, capacity: int) -> jax.Array:
    """The priorities [N, C] of an empty buffer, before the exponent."""
    return jnp.zeros((num_worlds, capacity))


def add(priority: jax.Array, buffer: buffer_lib.Buffer, length: int) -> jax.Array:
    """The priorities after the last `length` steps [length, N] were added to the buffer."""
    slot = (buffer.count[0] - length + jnp.arange(length)) % priority.shape[1]
    largest = jnp.max(priority)
    return priority.at[:, slot].set(jnp.where(largest > 0.0, largest, 1.0))


def draw(
    priority: jax.Array,
    buffer: buffer_lib.Buffer,
    key: Key,
    shape: tuple[int, ...],
    n_step: int,
    exponent: float,
    beta: float,
) -> tuple[buffer_lib.Places, jax.Array]:
    """Places that `n_step` steps follow, and their importance weights, at most 1: [*shape]."""
    point_key, order_key = jax.random.split(key)
    num_worlds, capacity = priority.shape
    count = buffer.count[0]
    oldest = jnp.maximum(count - capacity, 0)
    time = oldest + (jnp.arange(capacity) - oldest) % capacity  # of each slot
    whole = time + n_step <= count
    scaled = jnp.where(whole, priority, 0.0) ** exponent * whole
    total = jnp.cumsum(scaled.reshape(-1))
    # stratified: sample i of n lies in the i-th n-th of the sum
    num = math.prod(shape)
    point = (jnp.arange(num) + jax.random.uniform(point_key, (num,))) / num * total[-1]
    index = jnp.searchsorted(total, point, side='right')
    index = jnp.minimum(index, num_worlds * capacity - 1)
    index = jax.random.permutation(order_key, index).reshape(shape)
    # rounding of the sums may point to a slot of no priority: the newest whole sample instead
    world, time = index // capacity, jnp.minimum(time[index % capacity], count - n_step)
    chance = scaled[world, time % capacity] / total[-1]
    num_stored = num_worlds * jnp.sum(whole)
    weight = (num_stored * jnp.maximum(chance, 1e-12)) ** -beta
    weight = weight / jnp.max(weight)
    return buffer_lib.Places(world, time), weight


def update(priority: jax.Array, places: buffer_lib.Places, td_error: jax.Array) -> jax.Array:
    """The priorities after the critic's errors at these places were seen."""
    slot = places.time % priority.shape[1]
    return priority.at[places.world, slot].set(jnp.abs(td_error) + EPSILON)
