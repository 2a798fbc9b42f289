"""Detour: reach a goal behind a pillar, left or right of it, without touching it.

A 7-DoF arm holds its hand down in front of a pillar that stands on the plane y = 0; the goal is
behind it. Everything is drawn symmetrically about that plane and independently, so that both sides
are equally good, and the average of a path to the left and one to the right runs into the pillar.
The forearm passes above the pillar; touching it with the hand or the forearm ends the episode.

A reset draws uniformly: every joint within 0.04 rad of home, which puts the end effector near
(0.30, 0, 0.20) m; the pillar's axis within 1 cm of (0.46, 0) m; the goal within (3, 4, 4) cm of
(0.63, 0, 0.20) m.

Observation, float32 [3 D + 13], D joints:
  [0, D) joint positions, rad; [D, 2 D) joint velocities, rad/s;
  [2 D, 3 D) targets of the position controllers minus positions, rad;
  then end effector x, y, z, m; goal x, y, z, m; goal minus end effector, m;
  pillar x, y, m; pillar minus end effector x, y, m.

Action, [-1, 1]^D, clipped here: change of the controllers' targets, in units of 0.05 rad per
0.05 s step. Success: the end effector is within 5 cm of the goal and nothing touches the pillar.

Reward: progress_scale * (d(s) - d(s')) + success_bonus at success - contact_penalty at a touch,
where d is the length in m of the shortest path of the hand's tip around the pillar to the goal.
The progress is a difference of the potential Phi = -progress_scale d, so an episode's sum of
rewards is Phi(end) - Phi(start) plus the bonus or minus the penalty, and no loop or detour pays.
The difference is deliberately not gamma Phi(s') - Phi(s) as in Ng, Harada and Russell (1999). That
form leaves every ranking of policies exactly as it was: once the critic is learnt, standing still
is worth as much as coming closer, and PPO stalled before it ever met the bonus. Differences without
gamma reward an agent that discounts for progress, and more so the sooner it comes.
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
from jaxpolicy.types import Env, EnvState, Key

HOME = (0.225, 2.362, 0.555)  # rad: shoulder, elbow and wrist pitch; hand straight down
EXPERT = 'jaxpolicy.envs.tasks.detour_expert'
RANDOMIZABLE = RELATIVE = True  # see `jaxpolicy.envs`


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers. Lengths in m, angles in rad."""

    num_dof: Literal[6, 7] = 7  # or 6: no upper-arm roll
    episode_steps: ranges.Count = 80  # recommended time limit, 4 s
    action_scale: ranges.Positive = 0.05  # rad, change of a target at action 1
    tolerance: ranges.Positive = 0.05  # m, end effector to goal
    joint_noise: ranges.NonNegative = 0.04  # rad, start pose
    joint_noise_inner: ranges.NonNegative = 0.0  # rad, one joint starts at least so far off
    pillar: tuple[float, float] = (0.46, 0.0)  # m
    pillar_noise: Annotated[tuple[float, float], ranges.Range(0.0)] = (0.01, 0.01)  # m
    pillar_radius: ranges.Positive = 0.06  # m
    pillar_height: ranges.Positive = 0.42  # m, with its round top
    goal: tuple[float, float, float] = (0.63, 0.0, 0.20)  # m
    goal_noise: Annotated[tuple[float, float, float], ranges.Range(0.0)] = (0.03, 0.04, 0.04)  # m
    clearance: ranges.NonNegative = 0.02  # m, which the path that measures progress keeps free
    progress_scale: float = 5.0  # per m
    success_bonus: float = 5.0
    contact_penalty: ranges.NonNegative = 2.0


class Sim(struct.PyTreeNode):
    """The task's state."""

    body: arm.Body
    goal: jax.Array  # [3] m
    pillar: jax.Array  # [2] m
    potential: jax.Array  # [], Phi of the present state


def segment_distance(p0: jax.Array, p1: jax.Array, q0: jax.Array, q1: jax.Array) -> jax.Array:
    """Shortest distance between the segments p0-p1 and q0-q1 in 3-D, all [3]; q0 and q1 differ.

    Source: Ericson, Real-Time Collision Detection (2005), section 5.1.9.
    """
    u, v, w = p1 - p0, q1 - q0, p0 - q0
    a, b, c, d, e = u @ u, u @ v, v @ v, u @ w, v @ w
    parallel = a * c - b * b
    s = jnp.where(parallel > 1e-9, (b * e - c * d) / jnp.maximum(parallel, 1e-9), 0.0)
    t = jnp.clip((b * jnp.clip(s, 0.0, 1.0) + e) / c, 0.0, 1.0)
    s = jnp.clip((b * t - d) / jnp.maximum(a, 1e-9), 0.0, 1.0)
    return jnp.linalg.norm(w + s * u - t * v)


def distance_around(
    point: jax.Array, goal: jax.Array, centre: jax.Array, radius: float
) -> jax.Array:
    """Length [] of the shortest path from point [2] to goal [2] around a circle, all in m.

    The path is straight if the line is free, and otherwise two tangents and an arc. A path from
    inside the circle first leaves it along the radius.
    """
    p, g = point - centre, goal - centre
    rho, rho_goal = jnp.linalg.norm(p), jnp.maximum(jnp.linalg.norm(g), radius)
    outside = jnp.maximum(rho, radius)
    inwards = outside - rho
    p = p * (outside / jnp.maximum(rho, 1e-6))
    angle = jnp.arctan2(jnp.abs(p[0] * g[1] - p[1] * g[0]), p @ g)
    tangent = jnp.sqrt(jnp.maximum(outside**2 - radius**2, 0.0))
    tangent_goal = jnp.sqrt(jnp.maximum(rho_goal**2 - radius**2, 0.0))
    arc = angle - jnp.arctan2(tangent, radius) - jnp.arctan2(tangent_goal, radius)
    around = tangent + tangent_goal + radius * arc
    return inwards + jnp.where(arc > 0, around, jnp.linalg.norm(p - g))


def potential(config: Config, ee: jax.Array, goal: jax.Array, pillar: jax.Array) -> jax.Array:
    """Phi [], see the module, for the end effector [3], the goal [3] and the pillar [2] in m."""
    radius = config.pillar_radius + arm.HAND_RADIUS + config.clearance
    level = distance_around(ee[:2], goal[:2], pillar, radius)
    distance = jnp.sqrt(level**2 + (ee[2] - goal[2]) ** 2)
    return -config.progress_scale * distance


def touches(config: Config, pose: arm.Pose, pillar: jax.Array) -> jax.Array:
    """Whether the hand or the forearm touches the pillar, a capsule on the floor; [] bool."""
    foot = jnp.append(pillar, 0.0)
    top = jnp.append(pillar, config.pillar_height - config.pillar_radius)
    hand = segment_distance(pose.wrist, pose.ee, foot, top) - arm.HAND_RADIUS
    forearm = segment_distance(pose.elbow, pose.wrist, foot, top) - arm.FOREARM_RADIUS
    return jnp.minimum(hand, forearm) < config.pillar_radius


def make(config: Config, draw: randomize.Draw | None = None) -> Env:
    """Builds the task, unbatched; its metrics are success, contact (0 or 1) and `path_metrics`.

    Args:
      draw: domain randomisation, drawn anew at each reset.

    Raises:
      ValueError: there is no arm with that number of joints.
    """
    nominal, robot = config, arm.make(config.num_dof, HOME, draw)

    def observe(sim: Sim) -> jax.Array:
        ee = sim.body.trail[0]
        parts = (sim.goal, sim.goal - ee, sim.pillar, sim.pillar - ee[:2])
        return jnp.concatenate([arm.proprioception(sim.body), *parts])

    def reset(key: Key) -> EnvState:
        key, key_pose, key_pillar, key_goal, key_draw = jax.random.split(key, 5)
        overrides = robot.draw(nominal, key_draw)
        config = randomize.configured(nominal, overrides)
        pillar = parts.around(key_pillar, jnp.asarray(config.pillar), np.array(config.pillar_noise))
        goal = parts.around(key_goal, np.array(config.goal), np.array(config.goal_noise))
        noise = jnp.full((config.num_dof,), config.joint_noise)
        joints = parts.around(key_pose, robot.home, noise)
        joints = parts.outwards(joints, robot.home, config.joint_noise, config.joint_noise_inner)
        body = robot.start(joints, overrides)
        sim = Sim(body, goal, pillar, potential(config, body.trail[0], goal, pillar))
        obs, zero, no = observe(sim), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        metrics = {'success': zero, 'contact': zero} | arm.path_metrics(body)
        return EnvState(obs, obs, zero, no, no, metrics, key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Sim = state.sim
        config = randomize.configured(nominal, sim.body.overrides)
        body, pose = robot.move(sim.body, config.action_scale * jnp.clip(action, -1.0, 1.0))
        ee = body.trail[0]
        contact = touches(config, pose, sim.pillar)
        success = (jnp.linalg.norm(ee - sim.goal) < config.tolerance) & ~contact
        phi = potential(config, ee, sim.goal, sim.pillar)
        reward = phi - sim.potential
        reward += config.success_bonus * success - config.contact_penalty * contact
        sim = Sim(body, sim.goal, sim.pillar, phi)
        outcome = {'success': success.astype(jnp.float32), 'contact': contact.astype(jnp.float32)}
        return state.replace(
            obs=observe(sim),
            next_obs=observe(sim),
            reward=reward,
            termination=contact | success,
            truncation=jnp.zeros((), bool),
            metrics=outcome | arm.path_metrics(body),
            sim=sim,
        )

    return Env(reset, step, parts.spec(3 * nominal.num_dof + 13, nominal.num_dof))


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T]: arm, goal (green) and pillar (red)."""
    robot = arm.make(config.num_dof, HOME)
    sim = jax.device_get(parts.find(states.sim, Sim))
    size = (config.pillar_radius, config.pillar_height)
    return pictures.render(robot.model, sim.body.qpos, sim.goal, sim.pillar, size, (height, width))


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 1.0 / arm.CONTROL_DT
