"""Env -> Env: keeps the true observation, which outer wrappers may hide, delay or disturb."""

import jax
from flax import struct

from jaxpolicy.types import Env, EnvState, PyTree


class Truth(struct.PyTreeNode):
    """The `sim` of an environment that remembers the true observation."""

    obs: PyTree  # of the present state, undisturbed
    inner: PyTree


def remember_truth(env: Env) -> Env:
    """Keeps the observation as it is here, before outer wrappers hide, delay or disturb it.

    `truth` finds it again, for measurements and for teachers that see more than their students.
    """

    def remember(state: EnvState) -> EnvState:
        return state.replace(sim=Truth(state.obs, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        return remember(env.step(state.replace(sim=state.sim.inner), action))

    return Env(lambda key: remember(env.reset(key)), step, env.spec)


def truth(state: EnvState) -> PyTree:
    """The true observation that `remember_truth` kept, of one world or of a batch.

    Raises:
      ValueError: the environment has no `remember_truth`.
    """

    nodes = jax.tree.leaves(state.sim, is_leaf=lambda node: isinstance(node, Truth))
    found = [node.obs for node in nodes if isinstance(node, Truth)]
    if not found:
        raise ValueError(f'truth needs remember_truth in the env, found {type(state.sim)}')
    return found[0]
