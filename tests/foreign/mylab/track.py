"""A cart on a track must come to a goal; it can be told to break down, as simulators do."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.types import Env, EnvState, Spec


@dataclasses.dataclass(frozen=True)
class Config:
    episode_steps: int = 20
    speed: float = 0.2  # m per step
    breaks: float = 0.0  # probability that a step reports something that is no number
    breaks_what: str = 'reward'  # or 'obs' or 'success'


class Sim(struct.PyTreeNode):
    position: jax.Array  # [] m
    goal: jax.Array  # [] m


def make(config: Config) -> Env:
    spec = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))

    def see(sim, key, reward):
        obs, no = jnp.stack([sim.position, sim.goal]), jnp.zeros((), bool)
        there = (jnp.abs(sim.position - sim.goal) < 0.1).astype(jnp.float32)
        return EnvState(obs, obs, reward, no, no, {'success': there}, key, sim)

    def reset(key):
        key, start_key = jax.random.split(key)
        position, goal = jax.random.uniform(start_key, (2,), minval=-1.0)
        return see(Sim(position, goal), key, jnp.zeros(()))

    def step(state, action):
        key, break_key = jax.random.split(state.key)
        position = state.sim.position + config.speed * jnp.clip(action[0], -1.0, 1.0)
        sim = state.sim.replace(position=jnp.clip(position, -1.0, 1.0))
        reward = -jnp.abs(sim.position - sim.goal)
        broken = jax.random.bernoulli(break_key, config.breaks)
        bad, state = jnp.where(broken, jnp.nan, 0.0), see(sim, key, reward)
        if config.breaks_what == 'obs':
            return state.replace(obs=state.obs + bad)  # for one step: the simulation is sound
        if config.breaks_what == 'success':
            return state.replace(metrics={'success': state.metrics['success'] + bad})
        return state.replace(reward=reward + bad)

    return Env(reset, step, spec)
