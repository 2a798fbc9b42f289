"""Env -> Env: adds a reward for progress that leaves the optimal policies as they are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.types import Env, EnvState, Key, PyTree


class Shaped(struct.PyTreeNode):
    """The `sim` of an environment with a shaped reward."""

    potential: jax.Array  # [], potential of the present state
    inner: PyTree


def shape_reward(env: Env, potential: Callable[[PyTree], jax.Array], gamma: float) -> Env:
    """Adds gamma (1 - termination) potential(next_obs) - potential(obs) to the reward.

    The optimal policies stay the same, whatever the potential, for a learner that discounts by the
    same gamma. The potential of a terminal state counts as 0, because otherwise ending an episode
    would be rewarded. A state that runs out of time keeps its potential, and so `time_limit` wraps
    this environment, not the reverse. Disturbances wrap it too, so that it sees the undisturbed
    observations.

    metrics['task_reward'] is the environment's own reward, for evaluation.

    Args:
      env: unbatched.
      potential: observation -> [].
      gamma: the learner's discount.

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
