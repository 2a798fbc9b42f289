"""A task that compiles in no time: a point on a line goes to the origin, where the episode ends."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxpolicy.types import Env, EnvState, Goals, Spec

EXPERT = 'tests.commands.line_expert'
RELATIVE = True


@dataclasses.dataclass(frozen=True)
class Config:
    """A point 1 m away needs four steps."""

    episode_steps: int = 8
    speed: float = 0.3  # m per step


def control_hz(config: Config) -> float:
    del config
    return 20.0


def goals(config: Config) -> Goals:
    """What shaping needs of them: the goal is the origin."""
    del config

    def unused(*_):
        raise NotImplementedError

    return Goals(lambda obs: obs[:1], lambda obs: jnp.zeros(1), unused, unused)


def make(config: Config) -> Env:
    """obs [2]: where it is and the steps so far; the reward is the metres that it came nearer."""
    no = jnp.zeros((), bool)

    def reset(key):
        key, start_key, side_key = jax.random.split(key, 3)
        side = jnp.where(jax.random.bernoulli(side_key), 1.0, -1.0)
        x = side * jax.random.uniform(start_key, minval=0.2, maxval=1.0)
        obs = jnp.stack([x, 0.0])
        return EnvState(obs, obs, jnp.zeros(()), no, no, {'success': jnp.zeros(())}, key, obs)

    def step(state, action):
        before, steps = state.sim
        x = before + config.speed * jnp.clip(action[0], -1.0, 1.0)
        there, obs = jnp.abs(x) < 0.05, jnp.stack([x, steps + 1.0])
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=jnp.abs(before) - jnp.abs(x),
            termination=there,
            metrics={'success': there.astype(jnp.float32)},
            sim=obs,
        )

    spec = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
    return Env(reset, step, spec)
