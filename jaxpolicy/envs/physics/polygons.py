"""The exact area in which a polygon and a box overlap, in closed form and without branches."""

import jax
import jax.numpy as jnp


def box_overlap(x: jax.Array, y: jax.Array, width: jax.Array, height: jax.Array) -> jax.Array:
    """The area of a polygon inside the box [0, width] x [0, height].

    By Green's theorem it is the integral of clip(x, 0, width) dy along the parts of the boundary
    with y in [0, height]. Where the box cuts the polygon, the new boundary runs either along x = 0
    or x = width, where clipping puts it, or along constant y, where dy = 0. The area is continuous
    in all arguments, also where sides coincide. The polygon may be any simple one.

    Args:
      x, y: corners [K, ...], counter-clockwise.
      width, height: size of the box, [...] or numbers.

    Returns:
      The area [...].
    """
    next_x, next_y = jnp.roll(x, -1, axis=0), jnp.roll(y, -1, axis=0)
    low_y, high_y = jnp.clip(y, 0.0, height), jnp.clip(next_y, 0.0, height)
    slope = _ratio(next_x - x, next_y - y)  # on a level side the dy below is zero
    start, end = x + slope * (low_y - y), x + slope * (high_y - y)
    low_x, high_x = jnp.minimum(start, end), jnp.maximum(start, end)
    # The mean of clip(x) over a straight piece sums its part inside the box and its part beyond.
    inner_low, inner_high = jnp.clip(low_x, 0.0, width), jnp.clip(high_x, 0.0, width)
    inner = _ratio(inner_high - inner_low, high_x - low_x)
    beyond = _ratio(high_x - jnp.maximum(low_x, inner_high), high_x - low_x)
    mean = inner * (inner_low + inner_high) / 2 + jnp.where(high_x > width, beyond, 0.0) * width
    mean = jnp.where(high_x > low_x, mean, inner_low)
    return (mean * (high_y - low_y)).sum(0)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b, or 0 where b is 0."""
    return jnp.where(b == 0.0, 0.0, a / jnp.where(b == 0.0, 1.0, b))
