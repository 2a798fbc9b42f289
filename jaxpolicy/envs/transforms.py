"""Environments from environments: time limits, batches, automatic resets.

The usual order is auto_reset(vectorize(time_limit(env, num_steps)), pool).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.types import Env, EnvState, Key

PyTree = Any


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

    Only their first episodes are cut short, so that later ones do not all truncate together.

    Raises:
      ValueError: no `time_limit` was applied to the environment.
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


class Shaped(struct.PyTreeNode):
    """The `sim` of an environment with a shaped reward."""

    potential: jax.Array  # [] of the present state
    inner: PyTree


def shape_reward(env: Env, potential: Callable[[PyTree], jax.Array], gamma: float) -> Env:
    """Adds gamma (1 - termination) potential(next_obs) - potential(obs) to the reward.

    The optimal policies stay the same, whatever the potential, for a learner that discounts by the
    same gamma. The potential of a terminal state counts as 0, else ends would be rewarded; of one
    that runs out of time it does not, and so this comes inside `time_limit`. It also comes inside
    disturbances, and sees what is true.

    metrics['task_reward'] is the environment's own reward, for evaluation.

    Args:
      env: unbatched.
      potential: observation -> [].

    Source: Ng, Harada and Russell, 1999, theorem 1.
    """

    def see(state: EnvState, reward: jax.Array, after: jax.Array) -> EnvState:
        metrics = state.metrics | {'task_reward': state.reward}
        return state.replace(reward=reward, metrics=metrics, sim=Shaped(after, state.sim))

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        return see(state, state.reward, potential(state.next_obs))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        before: jax.Array = state.sim.potential  # `obs` may have been disturbed further out
        own = {name: x for name, x in state.metrics.items() if name != 'task_reward'}
        state = env.step(state.replace(metrics=own, sim=state.sim.inner), action)
        after = potential(state.next_obs)
        shaped = state.reward + gamma * jnp.where(state.termination, 0.0, after) - before
        return see(state, shaped, after)

    return Env(reset, step, env.spec)


class Truth(struct.PyTreeNode):
    """The `sim` of an environment that remembers what is true."""

    obs: PyTree  # of the present state, as nothing has disturbed it
    inner: PyTree


def remember_truth(env: Env) -> Env:
    """Keeps the observation as it is here, below whatever hides, delays or disturbs it further out.

    `truth` finds it again. For measurements, and for teachers that see more than their students.
    """

    def remember(state: EnvState) -> EnvState:
        return state.replace(sim=Truth(state.obs, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        return remember(env.step(state.replace(sim=state.sim.inner), action))

    return Env(lambda key: remember(env.reset(key)), step, env.spec)


def truth(state: EnvState) -> PyTree:
    """The observation of the present state that `remember_truth` kept, of one world or a batch.

    Raises:
      ValueError: nothing was kept.
    """

    nodes = jax.tree.leaves(state.sim, is_leaf=lambda node: isinstance(node, Truth))
    found = [node.obs for node in nodes if isinstance(node, Truth)]
    if not found:
        raise ValueError(f'truth needs remember_truth in the env, found {type(state.sim)}')
    return found[0]


def vectorize(env: Env) -> Env:
    """N environments at once: reset(keys [N]), step(state, action [N, A]); `spec` is unbatched."""
    return Env(jax.vmap(env.reset), jax.vmap(env.step), env.spec)


def _broken(state: EnvState) -> jax.Array:
    """[N] bool: which worlds hold a number that is not finite, or beyond MuJoCo's mjMAXVAL."""
    numbers = (state.obs, state.next_obs, state.reward, state.sim)
    bad = jnp.zeros(state.reward.shape, bool)
    for leaf in jax.tree.leaves(numbers):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            bad |= ~(jnp.abs(leaf) < 1e10).all(axis=tuple(range(1, leaf.ndim)))
    return bad


def select(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Leaf by leaf and world by world, `yes` where the condition [N] holds, else `no`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(pick, yes, no)


def auto_reset(env: Env, pool: EnvState) -> Env:
    """Starts a new episode wherever one ended, and wherever a world broke.

    After the last step of an episode `obs` and `sim` are those of a random entry of the pool, whole
    (so that nothing survives from the old episode), while `next_obs`, `reward`, `termination`,
    `truncation` and `metrics` still describe the step that ended. Each world keeps its own `key`.

    A world with a number that is not finite, or 1e10 and more, in `obs`, `next_obs`, `reward` or
    `sim` is reset as well. Its transition becomes a termination with zero reward, `next_obs` and
    metrics, and metrics['nan_world'] is 1: a learner must leave it out. It is there from reset on.

    Args:
      env: a vectorized environment.
      pool: fresh states [N] from `env.reset(keys)`. Make it anew for every rollout, inside jit.
    """

    def reset(keys: Key) -> EnvState:
        state = env.reset(keys)
        return state.replace(metrics=state.metrics | {'nan_world': jnp.zeros_like(state.reward)})

    def step(state: EnvState, action: jax.Array) -> EnvState:
        no = jnp.zeros_like(state.termination)  # of an env that never sets one of them
        known = _without(state.metrics)
        state = env.step(state.replace(termination=no, truncation=no, metrics=known), action)
        broken = _broken(state)
        result = (state.next_obs, state.reward, state.metrics)
        zeros = jax.tree.map(jnp.zeros_like, result)
        next_obs, reward, metrics = select(broken, zeros, result)
        termination = state.termination | broken
        truncation = state.truncation & ~broken

        keys = jax.vmap(jax.random.split)(state.key)  # [N, 2]
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, pool.reward.shape[0]))(keys[:, 1])
        fresh = jax.tree.map(lambda x: x[index], (pool.obs, pool.sim))
        obs, sim = select(termination | truncation, fresh, (state.obs, state.sim))
        return EnvState(
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            termination=termination,
            truncation=truncation,
            metrics=metrics | {'nan_world': broken.astype(reward.dtype)},
            key=keys[:, 0],
            sim=sim,
        )

    return Env(reset, step, env.spec)


def _without(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The metrics that the wrapped environment knows."""
    return {name: value for name, value in metrics.items() if name != 'nan_world'}
