"""A toy: a point on a line that shall be led to zero; who goes beyond 2 has failed."""

import jax
import jax.numpy as jnp

from jaxpolicy.envs.wrap import time_limit, truth, vectorize
from jaxpolicy.loops.dagger import turns as explore
from jaxpolicy.types import Agent, Env, EnvState, Policy, Spec, memoryless

SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
STEP = 0.2
HORIZONS = explore.Horizons(obs=2, pred=4, action=2, episode=10)


def env() -> Env:
    def reset(key):
        x = jax.random.uniform(key, (1,), minval=-1.0)
        no, zero = jnp.zeros((), bool), jnp.zeros(())
        return EnvState(x, x, zero, no, no, {'success': zero}, key, x)

    def step(state, action):
        x = state.sim + STEP * jnp.clip(action, -1.0, 1.0)
        success, lost = jnp.abs(x[0]) < 0.05, jnp.abs(x[0]) > 2.0
        return state.replace(
            obs=x,
            next_obs=x,
            sim=x,
            termination=success | lost,
            metrics={'success': success.astype(jnp.float32)},
        )

    limited = time_limit.time_limit(truth.remember_truth(Env(reset, step, SPEC)), 10)
    return vectorize.vectorize(limited)


def towards_zero(obs: jax.Array) -> jax.Array:
    return jnp.clip(-obs / STEP, -1.0, 1.0)


def expert() -> explore.Expert:
    """It counts its own steps since it began."""

    def act(carry, obs, key):
        return carry + 1, towards_zero(obs), {}

    policy = Policy(lambda obs: jnp.zeros(len(obs), jnp.int32), act)
    return explore.Expert(policy, truth.truth)


def runaway() -> Agent:
    """Plans 0.1, 0.2, 0.3, 0.4, wherever it is."""

    def act(obs, key):
        chunk = jnp.array([0.1, 0.2, 0.3, 0.4])[:, None]
        return jnp.broadcast_to(chunk, (len(obs), 4, 1)), {}

    return Agent(lambda key: (), lambda s, b, k: (s, {}), lambda *_: memoryless(act))
