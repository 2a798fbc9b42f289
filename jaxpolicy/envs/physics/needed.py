"""Which arrays of a simulator's state its next steps need, so that nothing else is carried along.

A state such as MJX's has dozens of arrays that a step computes anew from a few (positions,
velocities, warm starts). Carrying them from step to step has XLA compute, select and copy what
nobody reads, and compile all of that.
"""

from collections.abc import Callable

import jax
from jax.interpreters import partial_eval

from jaxpolicy.types import PyTree

# An undocumented function of JAX: without it everything is carried, which is slower and right.
_dce_jaxpr = vars(partial_eval).get('dce_jaxpr')


def needed(
    step: Callable[..., tuple[dict[str, jax.Array], PyTree]], state: dict, *rest: PyTree
) -> set[str]:
    """The names of the arrays in `state` that any later step reads, whatever it returns besides.

    Args:
      step: (state, *rest) -> (the next state, with the same names; what else is returned).
      state: {name: array or ShapeDtypeStruct}.
      rest: what else `step` takes.
    """
    if _dce_jaxpr is None:
        return set(state)
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(state, *rest)
    names = sorted(state)  # as trees flatten
    assert sorted(shapes[0]) == names
    num_rest = len(jax.tree.leaves(shapes[1]))
    found: set[str] = set()
    while True:
        wanted = [name in found for name in names] + [True] * num_rest
        _, used = _dce_jaxpr(closed.jaxpr, wanted)
        new = found | {name for name, is_used in zip(names, used, strict=False) if is_used}
        if new == found:
            return found
        found = new
