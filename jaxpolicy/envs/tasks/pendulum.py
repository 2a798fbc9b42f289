"""Pendulum: swing a rod up with a motor too weak to lift it, and hold it upright.

This is Gymnasium's Pendulum-v1 on the device, for reinforcement learning. We read its dynamics,
reward and starts, and copied no code. A rod of length l and mass m turns on a pivot with torque u:
  thetaddot = 3 g / (2 l) sin(theta) + 3 / (m l^2) u,
in semi-implicit Euler steps of 0.05 s. theta is 0 upright and grows counter-clockwise.

It differs in three ways. Numbers are float32. theta is kept in [-pi, pi), while Gymnasium counts
turns; observations and rewards are the same. An action is in [-1, 1], in units of the largest
torque.

A reset draws uniformly: theta in [-pi, pi), thetadot within 1 rad/s.

Observation, float32 [3]: cos(theta), sin(theta), thetadot in rad/s.

Action, [-1, 1]^1, clipped here: the torque, in units of 2 N m.

Reward per step, for the state before it: -(theta^2 + 0.1 thetadot^2 + 0.001 u^2), from -16.3 to 0.

Success: upright within 0.1 rad and slower than 0.5 rad/s after the step. It does not end the
episode; nothing but a time limit does.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.envs.tasks import parts
from jaxpolicy.types import Env, EnvState, Key

CONTROL_DT = 0.05  # s, one action and one physics step


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers. Angles in rad."""

    episode_steps: ranges.Count = 200  # recommended time limit, 10 s
    gravity: float = 10.0  # m/s^2
    mass: ranges.Positive = 1.0  # kg
    length: ranges.Positive = 1.0  # m
    max_torque: ranges.NonNegative = 2.0  # N m, at action 1
    max_speed: ranges.Positive = 8.0  # rad/s, at which the speed is clipped
    start_angle: ranges.NonNegative = math.pi  # rad at most, either way
    start_speed: ranges.NonNegative = 1.0  # rad/s at most, either way


class Sim(struct.PyTreeNode):
    """The task's state; the names are MuJoCo's, which `disturb.push` knows."""

    qpos: jax.Array  # [] rad in [-pi, pi), theta
    qvel: jax.Array  # [] rad/s, thetadot


def make(config: Config) -> Env:
    """Builds the task, unbatched; `metrics` has 'success' (0 or 1)."""

    def observe(sim: Sim) -> jax.Array:
        return jnp.stack([jnp.cos(sim.qpos), jnp.sin(sim.qpos), sim.qvel])

    def reset(key: Key) -> EnvState:
        key, start_key = jax.random.split(key)
        most = jnp.array([config.start_angle, config.start_speed], jnp.float32)
        sim = Sim(*jax.random.uniform(start_key, (2,), minval=-most, maxval=most))
        obs, zero, no = observe(sim), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {'success': zero}, key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        old: Sim = state.sim
        torque = config.max_torque * jnp.clip(action[0], -1.0, 1.0)
        sim = _move(config, old, torque)
        success = (jnp.abs(sim.qpos) < 0.1) & (jnp.abs(sim.qvel) < 0.5)
        return state.replace(
            obs=observe(sim),
            next_obs=observe(sim),
            reward=-(old.qpos**2 + 0.1 * old.qvel**2 + 0.001 * torque**2),
            termination=jnp.zeros((), bool),
            truncation=jnp.zeros((), bool),
            metrics={'success': success.astype(jnp.float32)},
            sim=sim,
        )

    return Env(reset, step, parts.spec(3, 1))


def _move(config: Config, sim: Sim, torque: jax.Array) -> Sim:
    """One step with a torque [] in N m."""
    fall = 1.5 * config.gravity / config.length * jnp.sin(sim.qpos)
    speed = sim.qvel + CONTROL_DT * (fall + 3.0 / (config.mass * config.length**2) * torque)
    speed = jnp.clip(speed, -config.max_speed, config.max_speed)
    angle = sim.qpos + CONTROL_DT * speed
    return Sim(jnp.mod(angle + math.pi, 2.0 * math.pi) - math.pi, speed)


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T]: the rod (blue) and its goal (green)."""
    from jaxpolicy.envs.render import drawing  # only pictures need it

    angles = jax.device_get(parts.find(states.sim, Sim).qpos)
    length, edge = config.length, 1.3 * config.length
    x, y = drawing.canvas((-edge, -edge), (edge, edge), height, width)
    empty = np.full((height, width, 3), 255, np.uint8)
    goal = (0.0, length)
    empty[drawing.capsule(x, y, goal, goal, 0.2 * length)] = drawing.GOAL
    frames = np.repeat(empty[None], len(angles), axis=0)
    for frame, angle in zip(frames, angles, strict=True):
        tip = (-length * np.sin(angle), length * np.cos(angle))
        frame[drawing.capsule(x, y, (0.0, 0.0), tip, 0.1 * length)] = drawing.AGENT
        frame[drawing.capsule(x, y, (0.0, 0.0), (0.0, 0.0), 0.05 * length)] = drawing.FIXED
    return frames


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 1.0 / CONTROL_DT
