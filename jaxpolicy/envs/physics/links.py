"""How MJX walks along the links of a robot on a CPU, where its own way compiles and runs slowly.

MJX's `scan.body_tree` unrolls the walk: the program has a link's arithmetic once for every link.
Here a chain of links with equal joints is a loop, whose arithmetic is compiled once. For the arm of
7 joints, a step and its kinematics are 4,500 lines of StableHLO instead of 11,700. They run as fast
and give the same numbers. Other robots keep MJX's walk, with a barrier between the links.
"""

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that its optional parts are missing
    from mujoco import mjx

try:
    from mujoco.mjx._src import scan
except ImportError:  # a newer MJX may move its private modules; see `walk`
    scan = None

PyTree = Any

# The parameters of `scan.body_tree` that the walk below was written and measured for.
_BODY_TREE = ['m', 'f', 'in_types', 'out_types', 'args', 'reverse']


def walk_applies() -> bool:
    """Whether the installed MJX still has the function that `walk` replaces."""
    body_tree = None if scan is None else vars(scan).get('body_tree')
    return callable(body_tree) and list(inspect.signature(body_tree).parameters) == _BODY_TREE


@contextlib.contextmanager
def walk() -> Iterator[None]:
    """Traces MJX with the walk of this module; it does nothing on accelerators.

    It covers only what is traced inside the context. If MJX's private function has changed, it
    warns and does nothing.
    """
    if jax.default_backend() != 'cpu':
        yield
        return
    if scan is None or not walk_applies():
        warnings.warn(
            'mujoco.mjx._src.scan.body_tree has changed: MJX walks along the links in its own way '
            'and may be very slow on CPU',
            stacklevel=3,
        )
        yield
        return
    original = scan.body_tree

    def body_tree(m, f, in_types, out_types, *args, reverse=False):
        if _is_chain(m) and _are_alike(args, in_types):
            return _loop(f, in_types, out_types, args, reverse)
        return original(m, _fenced(f), in_types, out_types, *args, reverse=reverse)

    scan.body_tree = body_tree
    try:
        yield
    finally:
        scan.body_tree = original


def _fenced(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A link's arithmetic with a barrier before what it gets from the link before it.

    XLA on CPU fuses through the whole walk. So every output of every link recomputes the chain
    before it, which makes an arm about 3 times (jax 0.12) to 2,000 times (jax 0.10) slower. The
    barrier stops the fusion and leaves the values alone.
    """

    def fenced(carry, *xs):
        return f(None if carry is None else jax.lax.optimization_barrier(carry), *xs)

    return fenced


def _is_chain(m: mjx.Model) -> bool:
    """Whether each body hangs on the one before it, by one joint of the kind that all have.

    The joint has one degree of freedom, so that link i has row i of what belongs to joints.
    """
    bodies = np.arange(m.nbody)
    return (
        m.nbody > 3  # a shorter chain gains nothing
        and m.njnt == m.nq == m.nv == m.nbody - 1
        and np.array_equal(m.body_parentid[1:], bodies[:-1])
        and np.array_equal(m.jnt_bodyid, bodies[1:])
        and len(set(m.jnt_type)) == 1
    )


def _are_alike(args: tuple, in_types: str) -> bool:
    """Whether NumPy's arrays, on which MJX branches while tracing, are the same for all links."""
    of_links = [arg[1:] if typ == 'b' else arg for arg, typ in zip(args, in_types, strict=True)]
    return all((arg == arg[0]).all() for arg in of_links if isinstance(arg, np.ndarray))


def _loop(f, in_types: str, out_types: str, args: tuple, reverse: bool) -> PyTree:
    """`scan.body_tree` of a chain: from the world to the tip, or in `reverse`.

    The link that the walk begins with gets no carry or the world's, whose shapes are others; so it
    is computed before the loop over all others.
    """
    static = [isinstance(arg, np.ndarray) for arg in args]  # MJX branches on these, as joint types
    of_world = [arg[0] if typ == 'b' else arg[:0] for arg, typ in zip(args, in_types, strict=True)]
    of_links = [
        arg[1:] if typ == 'b' else arg[:, None] for arg, typ in zip(args, in_types, strict=True)
    ]

    def link(carry, xs):
        return f(carry, *(a[0] if s else x for a, s, x in zip(of_links, static, xs, strict=True)))

    def links(part):
        return [None if s else a[part] for a, s in zip(of_links, static, strict=True)]

    def body(carry, xs):
        y = link(carry, xs)
        return y, y

    if reverse:
        end = link(None, links(-1))
        last, others = jax.lax.scan(body, end, links(slice(None, -1)), reverse=True)
        world = f(last, *of_world)
    else:
        world = f(None, *of_world)
        end = link(world, links(0))
        _, others = jax.lax.scan(body, end, links(slice(1, None)))

    def joined(typ, world, end, others):
        end = end[None]
        rows = jnp.concatenate([others, end] if reverse else [end, others])
        if typ == 'b':
            return jnp.concatenate([world[None], rows])
        return jnp.concatenate([world, rows.reshape(-1, *rows.shape[2:])])

    if len(out_types) == 1:
        return joined(out_types, world, end, others)
    return [joined(*parts) for parts in zip(out_types, world, end, others, strict=True)]
