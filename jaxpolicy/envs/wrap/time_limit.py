"""Env -> Env: ends episodes when their time is over, and gives first ones a random length."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.types import Env, EnvState, Key, PyTree


class TimeLimited(struct.PyTreeNode):
    """The `sim` of an environment with a time limit."""

    count: jax.Array  # [] int32, steps since the episode began
    inner: PyTree  # the limited environment's own sim


def time_limit(env: Env, num_steps: int) -> Env:
    """Truncates episodes at their `num_steps`-th step, unless they terminate there.

    Raises:
      ValueError: num_steps is not positive.
    """
    if num_steps < 1:
        raise ValueError(f'num_steps must be at least 1, found {num_steps}')

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        return state.replace(sim=TimeLimited(jnp.zeros((), jnp.int32), state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        count = state.sim.count + 1
        state = env.step(state.replace(sim=state.sim.inner), action)
        expired = (count >= num_steps) & ~state.termination
        return state.replace(
            truncation=state.truncation | expired, sim=TimeLimited(count, state.sim)
        )

    return Env(reset, step, env.spec)


def random_phase(state: EnvState, key: Key, num_steps: int) -> EnvState:
    """Starts the clocks of a batch [N] of fresh episodes at random times in [0, num_steps).

    This shortens only the first episodes, and later ones then do not all truncate at the same step.

    Raises:
      ValueError: the environment has no `time_limit`.
    """

    def is_limited(node: PyTree) -> bool:
        return isinstance(node, TimeLimited)

    def shift(node: PyTree) -> PyTree:
        if not is_limited(node):
            return node
        return node.replace(count=jax.random.randint(key, node.count.shape, 0, num_steps))

    nodes = jax.tree.leaves(state.sim, is_leaf=is_limited)
    if not any(map(is_limited, nodes)):
        raise ValueError(f'random_phase needs time_limit in the env, found {type(state.sim)}')
    return state.replace(sim=jax.tree.map(shift, state.sim, is_leaf=is_limited))
