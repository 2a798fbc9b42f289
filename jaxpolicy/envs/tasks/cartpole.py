"""CartPole: push a cart left or right so that the pole on it does not fall. Actions are discrete.

This is Gymnasium's CartPole-v1 on the device, for value-based learning. We read its dynamics,
reward, ends and starts, and copied no code. A pole of mass m and half-length l stands on a cart of
mass M, without friction, which a force F pushes. theta is 0 upright and grows to the right:
  (M + m) xddot + m l (thetaddot cos(theta) - thetadot^2 sin(theta)) = F
  4/3 l thetaddot + xddot cos(theta) = g sin(theta),
These are solved for the accelerations, and integrated by explicit Euler steps of 0.02 s (the
positions move by the old velocities). Sources: Barto, Sutton, Anderson, 1983; Florian, 2007.

It differs in two ways. Numbers are float32. A step after the end still has reward 1, while
Gymnasium gives 0.

A reset draws uniformly: x, xdot, theta and thetadot within 0.05 of 0.

Observation, float32 [4]: x in m, xdot in m/s, theta in rad, thetadot in rad/s.

Action, one-hot [2]: 10 N to the left or 10 N to the right. The larger number chooses, and the first
one if both are equal.

Reward per step: 1, also where the episode ends. It ends at |x| > 2.4 m or |theta| > 12 degrees.

Success: still up after `episode_steps` steps. It does not end the episode.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.envs.tasks import parts
from jaxpolicy.types import Env, EnvState, Key, Spec

MAX_ANGLE = math.radians(12.0)
CONTROL_DT = 0.02  # s, one action and one physics step


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers. Lengths in m, angles in rad, masses in kg."""

    episode_steps: ranges.Count = 500  # recommended time limit, 10 s; as many make a success
    gravity: float = 9.8  # m/s^2
    cart_mass: ranges.Positive = 1.0
    pole_mass: ranges.Positive = 0.1
    half_length: ranges.Positive = 0.5  # of the pole
    force: ranges.NonNegative = 10.0  # N, either way
    start: ranges.NonNegative = 0.05  # of each number of the state, either way at most
    max_position: ranges.Positive = 2.4  # beyond it the episode ends
    max_angle: ranges.Positive = MAX_ANGLE  # beyond it the episode ends


class Sim(struct.PyTreeNode):
    """The task's state; the names are MuJoCo's, which `disturb.push` knows."""

    qpos: jax.Array  # [2] x in m, theta in rad
    qvel: jax.Array  # [2] m/s, rad/s
    count: jax.Array  # [] int32, steps since the episode began


def make(config: Config) -> Env:
    """Builds the task, unbatched; `metrics` has 'success' (0 or 1)."""

    def observe(sim: Sim) -> jax.Array:
        return jnp.stack([sim.qpos[0], sim.qvel[0], sim.qpos[1], sim.qvel[1]])

    def reset(key: Key) -> EnvState:
        key, start_key = jax.random.split(key)
        drawn = jax.random.uniform(start_key, (2, 2), minval=-config.start, maxval=config.start)
        sim = Sim(drawn[0], drawn[1], jnp.zeros((), jnp.int32))
        obs, zero, no = observe(sim), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {'success': zero}, key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        old: Sim = state.sim
        force = jnp.where(jnp.argmax(action) == 1, config.force, -config.force)
        qpos = old.qpos + CONTROL_DT * old.qvel
        qvel = old.qvel + CONTROL_DT * _accelerations(config, old, force)
        sim = Sim(qpos, qvel, old.count + 1)
        limits = jnp.array([config.max_position, config.max_angle])
        fallen = jnp.any(jnp.abs(qpos) > limits)
        success = ~fallen & (sim.count >= config.episode_steps)
        return state.replace(
            obs=observe(sim),
            next_obs=observe(sim),
            reward=jnp.ones((), jnp.float32),
            termination=fallen,
            truncation=jnp.zeros((), bool),
            metrics={'success': success.astype(jnp.float32)},
            sim=sim,
        )

    spec = Spec(
        obs=jax.ShapeDtypeStruct((4,), jnp.float32), action=jax.ShapeDtypeStruct((2,), jnp.int8)
    )
    return Env(reset, step, spec)


def _accelerations(config: Config, sim: Sim, force: jax.Array) -> jax.Array:
    """[2] of the cart, m/s^2, and of the pole, rad/s^2; see the module."""
    cos, sin, speed = jnp.cos(sim.qpos[1]), jnp.sin(sim.qpos[1]), sim.qvel[1]
    mass = config.cart_mass + config.pole_mass
    lever = config.pole_mass * config.half_length  # kg m
    push = (force + lever * speed**2 * sin) / mass  # the cart's acceleration if the pole's were 0
    inertia = config.half_length * (4.0 / 3.0) - lever * cos**2 / mass
    turn = (config.gravity * sin - push * cos) / inertia
    return jnp.stack([push - lever * turn * cos / mass, turn])


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T].

    They show the cart (blue) on its track (light grey, with both ends), the pole (grey), and the
    angles that the pole may have (green).
    """
    from jaxpolicy.envs.render import drawing  # only pictures need it

    qpos = jax.device_get(parts.find(states.sim, Sim).qpos)
    end, length = config.max_position, 2.0 * config.half_length
    x, y = drawing.canvas((-1.1 * end, -0.4), (1.1 * end, 1.1 * length), height, width)
    empty = np.full((height, width, 3), 255, np.uint8)
    for start, stop in (
        ((-end, 0), (end, 0)),
        ((-end, -0.3), (-end, 0.3)),
        ((end, -0.3), (end, 0.3)),
    ):
        empty[drawing.capsule(x, y, start, stop, 0.03)] = drawing.FIXED
    frames = np.repeat(empty[None], len(qpos), axis=0)
    for frame, (position, angle) in zip(frames, qpos, strict=True):
        allowed = np.abs(np.arctan2(x - position, y)) <= config.max_angle
        frame[allowed & ((x - position) ** 2 + y**2 <= length**2)] = drawing.GOAL
        frame[(np.abs(x - position) <= 0.25) & (np.abs(y) <= 0.13)] = drawing.AGENT
        tip = (position + length * np.sin(angle), length * np.cos(angle))
        frame[drawing.capsule(x, y, (position, 0.0), tip, 0.04)] = drawing.OBJECT
    return frames


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 1.0 / CONTROL_DT
