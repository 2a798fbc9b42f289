"""Small parts that tasks of every simulator share: start draws, specs and goals."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxpolicy.types import Goals, Key, PyTree, Spec

T = TypeVar('T')


def around(key: Key, centre: ArrayLike, half: ArrayLike) -> jax.Array:
    """Draws each element uniformly within `half` of `centre`; float32."""
    half = jnp.asarray(half, jnp.float32)
    return jnp.asarray(centre, jnp.float32) + jax.random.uniform(key, half.shape, minval=-1) * half


def outwards(
    drawn: jax.Array, centre: ArrayLike, half: float | jax.Array, inner: float | jax.Array
) -> jax.Array:
    """Moves a draw away from `centre`, so that no start lies in a box of half-width `inner`.

    The draw is scaled about the centre. Its largest offset, between 0 and `half`, becomes one
    between `inner` and `half`, or `inner` itself where `inner` is larger than `half`. An `inner` of
    0 changes nothing.

    Args:
      drawn: [D], within `half` of `centre`.
      half, inner: [], the same for all elements.
    """
    offset = drawn - jnp.asarray(centre)
    largest = jnp.maximum(jnp.max(jnp.abs(offset)), 1e-9)
    share = largest / jnp.maximum(half, 1e-9)
    wanted = inner + jnp.maximum(half - inner, 0.0) * share
    return jnp.where(inner > 0, centre + offset * (wanted / largest), drawn)


def spec(obs_size: int, num_dof: int) -> Spec:
    """The spec of a task with flat observations and continuous actions."""
    shapes = ((obs_size,), (num_dof,))
    return Spec(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


def goals(point: int, goal: int, tolerance: float) -> Goals:
    """Builds `Goals` for flat observations that hold a point, its goal, and goal minus point in m.

    The reward is 1 where the point is within the tolerance of the goal, else 0.

    Args:
      point: the first of the point's three columns.
      goal: the first of the goal's three columns, which those of the difference follow.
      tolerance: m.
    """
    there, wanted, gap = (slice(first, first + 3) for first in (point, goal, goal + 3))

    def replace(obs: jax.Array, new: jax.Array) -> jax.Array:
        return obs.at[..., wanted].set(new).at[..., gap].set(new - obs[..., there])

    def reward(next_obs: jax.Array) -> jax.Array:
        distance = jnp.linalg.norm(next_obs[..., there] - next_obs[..., wanted], axis=-1)
        return (distance < tolerance).astype(jnp.float32)

    return Goals(lambda obs: obs[..., there], lambda obs: obs[..., wanted], replace, reward)


def find(sim: PyTree, kind: type[T]) -> T:
    """Finds the part of `sim` that is a `kind`, inside whatever wrappers have put around it.

    Raises:
      ValueError: there is no such part.
    """
    for node in jax.tree.leaves(sim, is_leaf=lambda x: isinstance(x, kind)):
        if isinstance(node, kind):
            return node
    raise ValueError(f'expected a sim that contains {kind}, found {type(sim)}')
