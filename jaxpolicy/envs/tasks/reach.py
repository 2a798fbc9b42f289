"""Reach: bring the end effector to a random goal and hold it there.

A reset draws uniformly: every joint within 0.1 rad of home, which puts the end effector near
(0.45, 0, 0.38) m; the goal in cylinder coordinates around the base, with radius 0.35 to 0.65 m,
azimuth within 1 rad of straight ahead, and height 0.15 to 0.60 m.

Observation, float32 [3 D + 9], D joints:
  [0, D) joint positions, rad; [D, 2 D) joint velocities, rad/s;
  [2 D, 3 D) targets of the position controllers minus positions, rad;
  then end effector x, y, z, m; goal x, y, z, m; goal minus end effector, m.

Action, [-1, 1]^D, clipped here: change of the controllers' targets, in units of 0.05 rad per
0.05 s step.

Reward per step, where d is the distance to the goal in m after the step: 'dense' gives
exp(-(d / 0.05)^2) - 2 d - 0.01 mean(action^2), at most 1; 'sparse' gives 1 where d < 5 cm, else 0.
Discounts of 0.95 to 0.99 suit both.

Success: the end effector was within 5 cm of the goal at each of the last 10 steps (0.5 s). It does
not end the episode; nothing but a time limit does.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.render import pictures
from jaxpolicy.envs.tasks import parts
from jaxpolicy.envs.wrap import randomize
from jaxpolicy.types import Env, EnvState, Goals, Key

HOME = (0.2, 1.8, 1.1)  # rad: shoulder, elbow and wrist pitch
RANDOMIZABLE = RELATIVE = True  # see `jaxpolicy.envs`
REWARDS = ('dense', 'sparse')


_SPARSE = ranges.Idle('reward', ('sparse',))


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers. Lengths in m, angles in rad."""

    num_dof: Literal[6, 7] = 7  # or 6: no upper-arm roll
    reward: Literal['dense', 'sparse'] = 'dense'
    episode_steps: ranges.Count = 60  # recommended time limit, 3 s
    action_scale: ranges.Positive = 0.05  # rad, change of a target at action 1
    tolerance: ranges.Positive = 0.05  # m, end effector to goal
    hold_steps: ranges.Count = 10  # steps within the tolerance that make a success
    joint_noise: ranges.NonNegative = 0.1  # rad, start pose
    joint_noise_inner: ranges.NonNegative = 0.0  # rad, one joint starts at least so far off
    goal_radius: ranges.Interval = (0.35, 0.65)  # m from the base's axis
    goal_azimuth: ranges.NonNegative = 1.0  # rad from straight ahead, either way
    goal_height: ranges.Interval = (0.15, 0.60)  # m
    distance_cost: Annotated[ranges.NonNegative, _SPARSE] = 2.0  # per m
    action_cost: Annotated[ranges.NonNegative, _SPARSE] = 0.01  # weight of the mean squared action


class Sim(struct.PyTreeNode):
    """The task's state."""

    body: arm.Body
    goal: jax.Array  # [3] m
    held: jax.Array  # [] int32, steps within the tolerance without a break


def make(config: Config, draw: randomize.Draw | None = None) -> Env:
    """Builds the task, unbatched; its metrics are success (0 or 1) and `arm.path_metrics`.

    Args:
      draw: domain randomisation, drawn anew at each reset.

    Raises:
      ValueError: there is no arm with that number of joints, or no such reward.
    """
    if config.reward not in REWARDS:
        raise ValueError(f'reward: expected one of {REWARDS}, found {config.reward!r}')
    nominal, robot = config, arm.make(config.num_dof, HOME, draw)

    def observe(sim: Sim) -> jax.Array:
        gap = sim.goal - sim.body.trail[0]
        return jnp.concatenate([arm.proprioception(sim.body), sim.goal, gap])

    def reset(key: Key) -> EnvState:
        key, key_pose, key_goal, key_draw = jax.random.split(key, 4)
        overrides = robot.draw(nominal, key_draw)
        config = randomize.configured(nominal, overrides)
        noise = jnp.full((config.num_dof,), config.joint_noise)
        joints = parts.around(key_pose, robot.home, noise)
        joints = parts.outwards(joints, robot.home, config.joint_noise, config.joint_noise_inner)
        body = robot.start(joints, overrides)
        sim = Sim(body, _goal(config, key_goal), jnp.zeros((), jnp.int32))
        obs, zero, no = observe(sim), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        metrics = {'success': zero} | arm.path_metrics(body)
        return EnvState(obs, obs, zero, no, no, metrics, key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Sim = state.sim
        config = randomize.configured(nominal, sim.body.overrides)
        action = jnp.clip(action, -1.0, 1.0)
        body, pose = robot.move(sim.body, config.action_scale * action)
        distance = jnp.linalg.norm(pose.ee - sim.goal)
        there = distance < config.tolerance
        held = jnp.where(there, sim.held + 1, 0)
        reward = there.astype(jnp.float32)
        if config.reward == 'dense':
            near = jnp.exp(-((distance / config.tolerance) ** 2))
            reward = near - config.distance_cost * distance
            reward -= config.action_cost * jnp.mean(action**2)
        sim = Sim(body, sim.goal, held)
        success = (held >= config.hold_steps).astype(jnp.float32)
        return state.replace(
            obs=observe(sim),
            next_obs=observe(sim),
            reward=reward,
            termination=jnp.zeros((), bool),
            truncation=jnp.zeros((), bool),
            metrics={'success': success} | arm.path_metrics(body),
            sim=sim,
        )

    return Env(reset, step, parts.spec(3 * nominal.num_dof + 9, nominal.num_dof))


def goals(config: Config) -> Goals:
    """The goals of the end effector, in m; the reward is 'sparse', with the config's tolerance."""
    ee = 3 * config.num_dof
    return parts.goals(ee, ee + 3, config.tolerance)


def _goal(config: Config, key: Key) -> jax.Array:
    """Draws a goal [3] in m, see the module."""
    low = jnp.array([config.goal_radius[0], -config.goal_azimuth, config.goal_height[0]])
    high = jnp.array([config.goal_radius[1], config.goal_azimuth, config.goal_height[1]])
    radius, azimuth, height = jax.random.uniform(key, (3,), minval=low, maxval=high)
    return jnp.stack([radius * jnp.cos(azimuth), radius * jnp.sin(azimuth), height])


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T]: the arm and its goal (green)."""
    robot = arm.make(config.num_dof, HOME)
    sim = jax.device_get(parts.find(states.sim, Sim))
    return pictures.render(robot.model, sim.body.qpos, sim.goal, None, (0.0, 0.0), (height, width))


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 1.0 / arm.CONTROL_DT
