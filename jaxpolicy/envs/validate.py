"""Checks that the parts of an environment fit together, without running it."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.types import Env


def check(env: Env) -> None:
    """Traces `reset` and `step` of an unbatched environment and compares what they return.

    Raises:
      ValueError: an observation, a reward or a flag has another shape or type than the spec or the
        rest of the environment says; the message names it.
    """
    first = jax.eval_shape(env.reset, jax.random.key(0))
    _same('reset: obs', env.spec.obs, first.obs)
    _same('reset: next_obs', env.spec.obs, first.next_obs)
    for name in ('reward', 'termination', 'truncation'):
        if (shape := vars(first)[name].shape) != ():
            raise ValueError(f'env: reset: {name}: expected a scalar, found shape {list(shape)}')
    for name in ('termination', 'truncation'):
        if (dtype := vars(first)[name].dtype) != jnp.bool_:
            raise ValueError(f'env: reset: {name}: expected bool, found {dtype}')
    action = jax.ShapeDtypeStruct(env.spec.action.shape, env.spec.action.dtype)
    then = jax.eval_shape(env.step, first, action)
    _same('step: the state after it', first, then)


def _same(what: str, wanted: Any, found: Any) -> None:
    """Raises a ValueError that names the first leaf in which two trees of shapes differ."""
    if jax.tree.structure(wanted) != jax.tree.structure(found):
        raise ValueError(
            f'env: {what}: expected the structure {jax.tree.structure(wanted)}, '
            f'found {jax.tree.structure(found)}'
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True)
    for (path, a), b in pairs:
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(
                f'env: {what}{jax.tree_util.keystr(path)}: expected {a.dtype}{list(a.shape)}, '
                f'found {b.dtype}{list(b.shape)}'
            )
