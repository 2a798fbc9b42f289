"""Env -> Env: runs N environments at once, and chooses between two states world by world."""

import jax
import jax.numpy as jnp

from jaxpolicy.types import Env, PyTree


def vectorize(env: Env) -> Env:
    """Batches an environment: reset(keys [N]), step(state, action [N, A]); `spec` is unbatched.

    Both are jitted inside, so that all programs of a process share one trace of the environment.
    """
    return Env(jax.vmap(jax.jit(env.reset)), jax.vmap(jax.jit(env.step)), env.spec)


def select(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Takes each leaf from `yes` in the worlds where the condition [N] holds, else from `no`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(pick, yes, no)
