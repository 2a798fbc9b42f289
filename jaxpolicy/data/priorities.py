"""Prioritised replay: steps whose value the critic predicted badly are drawn more often.

A step of priority p is drawn with a probability P proportional to p^exponent. Its loss is weighted
by (num P)^-beta, divided by the largest such weight of the batch. New steps get the largest
priority that is in the buffer. Each draw sums up all priorities on the device, so that no tree of
sums has to be kept, and nothing on the host.

Source: Schaul et al., 2016 (arXiv:1511.05952), equations 1 and section 3.4.
"""

import math

import jax
import jax.numpy as jnp

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.types import Key

EPSILON = 1e-3  # added to each error, so that a step without error can still be drawn


def make(num_worlds: int, capacity: int) -> jax.Array:
    """Makes the priorities [N, C] of an empty buffer; the exponent is not yet applied to them."""
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
    """Draws places where `n_step` stored steps begin, in proportion to priority^exponent.

    Returns:
      The places and their importance weights in (0, 1], [*shape] each.
    """
    point_key, order_key = jax.random.split(key)
    num_worlds, capacity = priority.shape
    count = buffer.count[0]
    oldest = jnp.maximum(count - capacity, 0)
    time = oldest + (jnp.arange(capacity) - oldest) % capacity  # the time of the step in each slot
    whole = time + n_step <= count
    scaled = jnp.where(whole, priority, 0.0) ** exponent * whole
    total = jnp.cumsum(scaled.reshape(-1))
    # Stratified: the sum is cut into as many equal parts as there are samples, one for each sample.
    num = math.prod(shape)
    point = (jnp.arange(num) + jax.random.uniform(point_key, (num,))) / num * total[-1]
    index = jnp.searchsorted(total, point, side='right')
    index = jnp.minimum(index, num_worlds * capacity - 1)
    index = jax.random.permutation(order_key, index).reshape(shape)
    # Rounding of the sums may select a slot without priority; then take the newest whole sample.
    world, time = index // capacity, jnp.minimum(time[index % capacity], count - n_step)
    chance = scaled[world, time % capacity] / total[-1]
    num_stored = num_worlds * jnp.sum(whole)
    weight = (num_stored * jnp.maximum(chance, 1e-12)) ** -beta
    weight = weight / jnp.max(weight)
    return buffer_lib.Places(world, time), weight


def update(priority: jax.Array, places: buffer_lib.Places, td_error: jax.Array) -> jax.Array:
    """Sets the priorities at these places from the critic's TD errors there."""
    slot = places.time % priority.shape[1]
    return priority.at[places.world, slot].set(jnp.abs(td_error) + EPSILON)
