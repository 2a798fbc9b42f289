"""Env -> Env: N environments at once, and choices among them world by world."""

import jax
import jax.numpy as jnp

from jaxpolicy.types import Env, PyTree


def vectorize(env: Env) -> Env:
    """N environments at once: reset(keys [N]), step(state, action [N, A]); `spec` is unbatched."""
    return Env(jax.vmap(env.reset), jax.vmap(env.step), env.spec)


def select(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Leaf by leaf and world by world, `yes` where the condition [N] holds, else `no`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(pick, yes, no)
