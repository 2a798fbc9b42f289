"""Env -> Env: a fresh episode begins wherever one ends or a world breaks.

The usual order is auto_reset(vectorize(time_limit(env, num_steps)), pool).
"""

import jax
import jax.numpy as jnp

from jaxpolicy.envs.wrap import vectorize
from jaxpolicy.types import Env, EnvState, Key, PyTree


def broken(state: EnvState, *more: PyTree) -> jax.Array:
    """[N] bool: which worlds hold a number that is not finite, or beyond MuJoCo's mjMAXVAL.

    Observations, rewards, metrics and the simulation are looked at.

    Args:
      more: arrays [N, ...] that are looked at as well, such as actions.
    """
    return unsound((state.obs, state.next_obs, state.reward, state.metrics, state.sim, more))


def unsound(numbers: PyTree) -> jax.Array:
    """[N] bool: where a float of the arrays [N, ...] is not finite, or has a magnitude >= 1e10."""
    bad = jnp.zeros((), bool)
    for leaf in map(jnp.asarray, jax.tree.leaves(numbers)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            bad |= ~(jnp.abs(leaf) < 1e10).all(axis=tuple(range(1, leaf.ndim)))
    return bad


def watched(env: Env) -> Env:
    """The vectorised environment with the metric 'nan_world' of `auto_reset`, but without resets.

    It is 1 in the steps that break a world, and in those after a broken observation.
    """

    def reset(keys: Key) -> EnvState:
        state = env.reset(keys)
        return state.replace(metrics=state.metrics | {'nan_world': jnp.zeros_like(state.reward)})

    def step(state: EnvState, action: jax.Array) -> EnvState:
        after = env.step(state.replace(metrics=_without(state.metrics)), action)
        broke = broken(after, action, state.obs).astype(after.reward.dtype)
        return after.replace(metrics=after.metrics | {'nan_world': broke})

    return Env(reset, step, env.spec)


def auto_reset(env: Env, pool: EnvState) -> Env:
    """Starts a new episode wherever one ended, and wherever a world broke.

    After the last step of an episode the whole of `obs` and `sim` is taken from a random state of
    the pool, so that nothing survives from the old episode. `next_obs`, `reward`, `termination`,
    `truncation` and `metrics` still describe the step that ended it. A world keeps its own `key`.

    A world breaks if a number in `obs`, `next_obs`, `reward`, `metrics` or `sim`, in the action or
    in the observation before it is not finite or has a magnitude of 1e10 or more. It is then reset
    too. Its transition becomes a termination with zero
    reward, `next_obs` and metrics. Its metrics['nan_world'] is 1, and a learner must leave it out.
    Every other step has this metric too, as 0, and so has the state after reset.

    Args:
      env: a vectorised environment.
      pool: fresh states from `env.reset(keys)`, any number. Draw new ones for every rollout, inside
        jit.
    """

    def reset(keys: Key) -> EnvState:
        state = env.reset(keys)
        return state.replace(metrics=state.metrics | {'nan_world': jnp.zeros_like(state.reward)})

    def step(state: EnvState, action: jax.Array) -> EnvState:
        no = jnp.zeros_like(state.termination)  # for an env that never sets one of these flags
        known, before = _without(state.metrics), state.obs
        state = env.step(state.replace(termination=no, truncation=no, metrics=known), action)
        broke = broken(state, action, before)
        result = (state.next_obs, state.reward, state.metrics)
        zeros = jax.tree.map(jnp.zeros_like, result)
        next_obs, reward, metrics = vectorize.select(broke, zeros, result)
        termination = state.termination | broke
        truncation = state.truncation & ~broke

        keys = jax.vmap(jax.random.split)(state.key)  # [N, 2]
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, pool.reward.shape[0]))(keys[:, 1])
        fresh = jax.tree.map(lambda x: x[index], (pool.obs, pool.sim))
        obs, sim = vectorize.select(termination | truncation, fresh, (state.obs, state.sim))
        return EnvState(
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            termination=termination,
            truncation=truncation,
            metrics=metrics | {'nan_world': broke.astype(reward.dtype)},
            key=keys[:, 0],
            sim=sim,
        )

    return Env(reset, step, env.spec)


def _without(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The metrics without 'nan_world', which the wrapped environment does not know."""
    return {name: value for name, value in metrics.items() if name != 'nan_world'}
