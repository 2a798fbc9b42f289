"""A task that compiles in no time: a point that should go to the origin."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxpolicy import types

NUM_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Config:
    """The time limit is all that there is to choose."""

    episode_steps: int = NUM_STEPS


def make(config: Config) -> types.Env:
    """The observation is the point [3]; the reward is minus its distance from the origin."""
    del config
    no, zero = jnp.zeros((), bool), jnp.zeros(())

    def reset(key):
        key, start_key = jax.random.split(key)
        start = jax.random.uniform(start_key, (3,), minval=-1.0)
        return types.EnvState(start, start, zero, no, no, {'near': zero}, key, start)

    def step(state, action):
        place = state.sim + 0.2 * jnp.clip(action, -1.0, 1.0)
        distance = jnp.linalg.norm(place)
        near = (distance < 0.5).astype(jnp.float32)
        return state.replace(
            obs=place,
            next_obs=place,
            reward=-distance,
            termination=no,
            truncation=no,
            metrics={'near': near},
            sim=place,
        )

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    return types.Env(reset, step, types.Spec(shape, shape))
