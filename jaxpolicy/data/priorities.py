"""Prioritised replay: steps whose value the critic predicted badly are drawn more often.

A step of priority p is drawn with a probability P proportional to p^exponent. Its loss is weighted
by (num P)^-beta, divided by the largest such weight of the batch. New steps get the largest
priority that is in the buffer. Each draw sums up all priorities on the device, so that no tree of
sums has to be kept, and nothing on the host. In training, beta rises to 1 (`annealed`).

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


def annealed(beta: float, num_env_steps: jax.Array, of: int) -> jax.Array:
    """beta after `num_env_steps` of training: it rises linearly and is 1 after `of` of them.

    Source: Schaul et al., 2016, section 3.4.
    """
    return beta + (1.0 - beta) * jnp.minimum(num_env_steps / of, 1.0)


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
    beta: float | jax.Array,
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
    # Stratified: the sum is cut into as many equal parts as there are samples, one for each sample.
    num = math.prod(shape)
    u = jax.random.uniform(point_key, (num,))
    index, total = _at(scaled.reshape(-1), jnp.arange(num), u, num)
    index = jax.random.permutation(order_key, index).reshape(shape)
    # Rounding of the sums may select a slot without priority; then take the newest whole sample.
    world, time = index // capacity, jnp.minimum(time[index % capacity], count - n_step)
    chance = scaled[world, time % capacity] / total
    num_stored = num_worlds * jnp.sum(whole)
    weight = (num_stored * jnp.maximum(chance, 1e-12)) ** -beta
    weight = weight / jnp.max(weight)
    return buffer_lib.Places(world, time), weight


def _at(
    scaled: jax.Array, part: jax.Array, u: jax.Array, num_parts: int
) -> tuple[jax.Array, jax.Array]:
    """The indices at which parts of the sum of `scaled` [size] are reached, and the sum.

    One running sum over a million numbers in float32 would be wrong by 11% of a number, and over
    four million some could never be reached. So sums are of blocks, of about as many numbers as
    there are blocks, and then within one block.

    Args:
      part: [num] int, of `num_parts` equal parts of the sum.
      u: [num], where in its part, 0 to 1.
    """
    width = math.isqrt(len(scaled) - 1) + 1
    blocks = jnp.pad(scaled, (0, -len(scaled) % width)).reshape(-1, width)
    ends = jnp.cumsum(jnp.sum(blocks, axis=1))
    begin, beyond = part / num_parts * ends[-1], u / num_parts * ends[-1]
    block = jnp.searchsorted(ends, begin + beyond, side='right')
    block = jnp.minimum(block, jnp.max(jnp.where(blocks.any(axis=1), jnp.arange(len(blocks)), 0)))
    rest = begin - jnp.where(block > 0, ends[block - 1], 0.0) + beyond  # small numbers last
    inside = blocks[block]  # [num, width]
    within = jnp.sum(jnp.cumsum(inside, axis=1) <= rest[:, None], axis=1)
    # Rounding may lead behind the last number above 0, and so to what must not be drawn.
    last = width - 1 - jnp.argmax(inside[:, ::-1] > 0.0, axis=1)
    return block * width + jnp.minimum(within, last), ends[-1]


def update(priority: jax.Array, places: buffer_lib.Places, td_error: jax.Array) -> jax.Array:
    """Sets the priorities at these places from the critic's TD errors there."""
    slot = places.time % priority.shape[1]
    return priority.at[places.world, slot].set(jnp.abs(td_error) + EPSILON)
