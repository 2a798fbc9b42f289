"""Environments whose values are known, of one number seen and one number done.

They follow the idea of probe environments (A. Jones, "Debugging RL, without the agonizing pain",
2021): each isolates one thing that can be wrong.
"""

import jax
import jax.numpy as jnp

from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.types import Env, EnvState, Spec

GAMMA = 0.9
SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
DISCRETE = Spec(SPEC.obs, jax.ShapeDtypeStruct((2,), jnp.int8))


def make(first_obs, transition, limit: int, spec: Spec = SPEC) -> Env:
    """first_obs(key) -> obs []; transition(obs, action) -> (next obs, reward, termination).

    A discrete action is the number of the choice.
    """

    def state(obs, reward, termination, key):
        obs, no = jnp.reshape(obs, (1,)), jnp.zeros((), bool)
        return EnvState(obs, obs, jnp.asarray(reward), termination, no, {}, key, ())

    def reset(key):
        key, obs_key = jax.random.split(key)
        return state(first_obs(obs_key), 0.0, jnp.zeros((), bool), key)

    def step(before, action):
        action = action[0] if spec is SPEC else jnp.argmax(action).astype(jnp.float32)
        obs, reward, termination = transition(before.obs[0], action)
        return state(obs, reward + 0.0 * action, termination | jnp.zeros((), bool), before.key)

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, spec), limit))


def zero(key):
    return jnp.zeros(())


def sign(key):
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
