"""Env -> Env: rewards from one demonstration's observations, by ordered coverage (ORCA).

It wraps an unbatched environment, before disturbances and `time_limit` do. The reward of a step is
the probability, from 0 to 1, that the episode has visited the demonstration's frames in their order
and is at the last one now (`ops.coverage`). The task's own reward is not learnt from.

The coverage depends on the whole episode so far. So the coverage of all frames but the last, M - 1
numbers from 0 to 1, is appended to the observation. The reward is then again a function of
observation and action, since the last frame's coverage follows from that of the others. A policy
that was trained in this way needs the demonstration when it acts.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy.ops import coverage
from jaxpolicy.types import Env, EnvState, Key, PyTree, Spec


class Covering(struct.PyTreeNode):
    """The `sim` of an environment that remembers the coverage of the frames."""

    covered: jax.Array  # [M], coverage in the episode so far
    inner: PyTree


def imitate(
    env: Env, frames: np.ndarray, columns: tuple[int, ...], scale: np.ndarray, temperature: float
) -> Env:
    """Replaces the environment's reward by the demonstration's.

    metrics['task_reward'] is the environment's own reward, for evaluation.

    Args:
      env: an environment with flat observations.
      frames: [M, D], the demonstration in the D columns that are compared.
      columns: the D columns of the observation that are compared; () for all.
      scale: [D], the distance that counts as far in each column, in the column's units.
      temperature: the distance at which a frame counts as visited with probability 1 / e, see
        `coverage.visits`. A reward is exp(-sum of M distances / temperature), so more frames need
        a higher temperature.

    Raises:
      ValueError: the observation is not flat or lacks a column, an array has the wrong shape, or
        the scale or the temperature is not positive.
    """
    chosen = _check(env, frames, columns, scale, temperature)
    obs_spec = env.spec.obs
    wanted, unit = jnp.asarray(frames, jnp.float32), jnp.asarray(scale, jnp.float32)

    def cover(before: jax.Array, obs: jax.Array) -> jax.Array:
        return coverage.cover(before, coverage.visits(obs[chosen], wanted, unit, temperature))

    def see(state: EnvState, covered: jax.Array) -> EnvState:
        obs = jnp.concatenate([state.next_obs, covered[:-1].astype(obs_spec.dtype)])
        return state.replace(obs=obs, next_obs=obs, sim=Covering(covered, state.sim))

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        covered = cover(jnp.zeros(len(frames), jnp.float32), state.next_obs)
        state = state.replace(metrics=state.metrics | {'task_reward': state.reward})
        return see(state, covered)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        before: jax.Array = state.sim.covered
        own = {name: x for name, x in state.metrics.items() if name != 'task_reward'}
        state = env.step(state.replace(metrics=own, sim=state.sim.inner), action)
        covered = cover(before, state.next_obs)
        metrics = state.metrics | {'task_reward': state.reward}
        return see(state.replace(reward=covered[-1], metrics=metrics), covered)

    longer = jax.ShapeDtypeStruct((obs_spec.shape[0] + len(frames) - 1,), obs_spec.dtype)
    return Env(reset, step, Spec(longer, env.spec.action))


def _check(env: Env, frames, columns, scale, temperature: float) -> np.ndarray:
    """Checks the arguments of `imitate`, and returns the columns that are compared, [D] int32."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(env.spec.obs)]
    if not isinstance(env.spec.obs, jax.ShapeDtypeStruct) or len(env.spec.obs.shape) != 1:
        raise ValueError(f'imitate: expected a flat observation, found shapes {shapes}')
    size = env.spec.obs.shape[0]
    chosen = np.asarray(columns or range(size), np.int32)
    if ((chosen < 0) | (chosen >= size)).any():
        raise ValueError(f'imitate.columns: expected columns in [0, {size}), found {columns}')
    if frames.shape[1:] != chosen.shape or not len(frames):
        raise ValueError(
            f'imitate.path: expected frames of {len(chosen)} columns, found {frames.shape}'
        )
    if scale.shape != chosen.shape or not (scale > 0).all():
        raise ValueError(
            f'imitate.scale: expected {len(chosen)} positive numbers, found {scale.tolist()}'
        )
    if temperature <= 0:
        raise ValueError(f'imitate.temperature: expected more than 0, found {temperature}')
    return chosen
