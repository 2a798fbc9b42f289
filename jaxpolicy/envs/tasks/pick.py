# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Pick: grasp a cube on the floor, lift it and hold it at a goal in the air.

The arm of `arm.py` with a two-finger gripper (`gripper.py`), in real contact with a cube of 4 cm.

A reset draws uniformly: every joint within 0.04 rad of home, which puts the end effector, between
the tips of the open fingers, near (0.45, 0, 0.15) m with the hand straight down; the cube's centre
within (6, 10) cm of (0.45, 0) m on the floor, turned about the vertical by up to 45 degrees either
way, which covers all turns that look different; the goal within (8, 12, 8) cm of (0.45, 0, 0.20) m.

Observation, float32 [3 D + 34], D joints; the hand's axes are y, along which the fingers close,
and z, in which it points:
  [0, D) joint positions, rad; [D, 2 D) joint velocities, rad/s;
  [2 D, 3 D) targets of the position controllers minus positions, rad;
  then end effector x, y, z, m; the hand's y axis and z axis;
  positions of both fingers, m from the middle; their target minus these, m;
  cube x, y, z, m; cube minus end effector, m; the cube's x axis and y axis in the hand's frame,
  row by row; the cube's velocity, m/s; goal x, y, z, m; goal minus cube, m.

Action, [-1, 1]^(D+1), clipped here: change of the joint controllers' targets, in units of 0.05 rad
per 0.05 s step; the last number changes the target of both fingers, in units of 1 cm per step, and
closes them where it is negative. A target leads its joint by 0.2 rad at most, so that it does not
run away while the hand presses on the floor.

Reward per step, 'shaped': 0.2 (near + 0.3 aligned + grasp + lift + 3 lift close + there) - 0.01
mean(action^2), where d is the distance from end effector to cube, g that from cube to goal, in m,
  near = 1 - tanh(5 d);  close = 1 - tanh(5 g);  there = 1 where g < 5 cm;
  aligned = half for the hand pointing down, half for the fingers parallel to a side of the cube;
  grasp = how far the cube keeps the fingers from their target, 1 at 5 mm, 0 unless d < 2.5 cm;
  lift = the cube's height above the floor, 1 at 5 cm, 0 unless d < 5 cm (so throwing does not pay).
It lies below 1.46. 'sparse': 1 where g < 5 cm, else 0. Discounts of 0.97 to 0.99 suit both.

Success: the cube was within 5 cm of the goal at each of the last 10 steps (0.5 s). It does not end
the episode; nothing but a time limit does.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.envs.physics import arm, backends, gripper
from jaxpolicy.envs.physics import stepping as physics
from jaxpolicy.envs.render import pictures
from jaxpolicy.envs.tasks import parts
from jaxpolicy.envs.wrap import randomize
from jaxpolicy.types import Env, EnvState, Goals, Key, Spec

HOME = (0.597, 1.947, 0.597)  # rad: shoulder, elbow and wrist pitch; hand straight down
EXPERT = 'jaxpolicy.envs.tasks.pick_expert'
RANDOMIZABLE = RELATIVE = True  # see `jaxpolicy.envs`
REWARDS = ('shaped', 'sparse')


_SPARSE = ranges.Idle('reward', ('sparse',))


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers. Lengths in m, angles in rad."""

    num_dof: Literal[6, 7] = 7  # or 6: no upper-arm roll
    backend: Literal['auto', 'mjx', 'native', 'warp'] = 'auto'  # the physics engine: backends
    reward: Literal['shaped', 'sparse'] = 'shaped'
    episode_steps: ranges.Count = 80  # recommended time limit, 4 s
    action_scale: ranges.Positive = 0.05  # rad, change of a joint's target at action 1
    finger_scale: ranges.Positive = 0.01  # m, change of the fingers' target at action 1
    max_lead: ranges.Positive = 0.2  # rad, how far a joint's target may be ahead of its position
    tolerance: ranges.Positive = 0.05  # m, cube to goal
    hold_steps: ranges.Count = 10  # steps within the tolerance that make a success
    joint_noise: ranges.NonNegative = 0.04  # rad, start pose
    joint_noise_inner: ranges.NonNegative = 0.0  # rad, one joint starts at least so far off
    cube: tuple[float, float] = (0.45, 0.0)  # m, on the floor
    cube_noise: Annotated[tuple[float, float], ranges.Range(0.0)] = (0.06, 0.10)  # m
    cube_yaw: ranges.NonNegative = math.pi / 4  # rad, either way
    goal: tuple[float, float, float] = (0.45, 0.0, 0.20)  # m
    goal_noise: Annotated[tuple[float, float, float], ranges.Range(0.0)] = (0.08, 0.12, 0.08)  # m
    action_cost: Annotated[ranges.NonNegative, _SPARSE] = 0.01  # weight of the mean squared action


class Sim(struct.PyTreeNode):
    """The task's state."""

    physics: backends.PhysicsState  # qpos: joints, fingers, the cube's position and quaternion
    target: jax.Array  # [D] rad, of the joints' controllers
    opening: jax.Array  # [] m, target of both fingers
    trail: jax.Array  # [4, 3] m, the end effector now and at the last three actions
    goal: jax.Array  # [3] m
    held: jax.Array  # [] int32, steps within the tolerance without a break
    overrides: dict[str, jax.Array]  # the values that this episode drew, see `randomize`


class View(NamedTuple):
    """What the observation and the reward need to know of a state."""

    body: arm.Body
    ee: jax.Array  # [3] m
    hand: jax.Array  # [3, 3] its axes are the columns
    fingers: jax.Array  # [2] m
    cube: jax.Array  # [3] m
    cube_axes: jax.Array  # [3, 3] the columns
    cube_velocity: jax.Array  # [3] m/s


def make(config: Config, draw: randomize.Draw | None = None) -> Env:
    """Builds the task, unbatched; its metrics are those of `measure`.

    Args:
      draw: domain randomisation, drawn anew at each reset.

    Raises:
      ValueError: there is no arm with that number of joints, or no such reward or backend.
    """
    if config.reward not in REWARDS:
        raise ValueError(f'reward: expected one of {REWARDS}, found {config.reward!r}')
    num_dof = config.num_dof
    robot, model = arm.make(num_dof, HOME), gripper.make_model(num_dof)
    engine = backends.make(model, arm.NUM_SUBSTEPS, config.backend)
    look = make_view(model, num_dof)
    draw_one = functools.partial(draw, physics.put(model)[0]) if draw else lambda *_: {}

    def reset(key: Key) -> EnvState:
        key, key_start, key_draw = jax.random.split(key, 3)
        overrides = draw_one(config, key_draw)
        qpos, goal = start(randomize.configured(config, overrides), robot.home, key_start)
        state = engine.start(qpos, jnp.zeros((model.nv,)))
        view = look(state, qpos[:num_dof], None, overrides)
        held, opening = jnp.zeros((), jnp.int32), qpos[num_dof]
        sim = Sim(state, view.body.target, opening, view.body.trail, goal, held, overrides)
        zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        obs = observe(view, sim)
        return EnvState(obs, obs, zero, no, no, measure(config, view, sim), key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Sim = state.sim
        now = randomize.configured(config, sim.overrides)
        action = jnp.clip(action, -1.0, 1.0)
        target = sim.target + now.action_scale * action[:num_dof]
        joints = sim.physics.qpos[:num_dof]
        target = jnp.clip(target, joints - now.max_lead, joints + now.max_lead)
        target = jnp.clip(target, robot.low, robot.high)
        opening = sim.opening + now.finger_scale * action[num_dof]
        opening = jnp.clip(opening, 0.0, gripper.MAX_OPENING)
        ctrl = jnp.concatenate([target, jnp.stack([opening, opening])])
        moved = engine.step(sim.physics, ctrl, randomize.physical(sim.overrides))
        view = look(moved, target, sim.trail[:-1], sim.overrides)
        there = jnp.linalg.norm(view.cube - sim.goal) < now.tolerance
        held = jnp.where(there, sim.held + 1, 0)
        sim = Sim(moved, target, opening, view.body.trail, sim.goal, held, sim.overrides)
        obs, metrics, no = observe(view, sim), measure(config, view, sim), jnp.zeros((), bool)
        reward = there.astype(jnp.float32)
        if config.reward == 'shaped':
            reward = shaped(view, sim, there) - now.action_cost * jnp.mean(action**2)
        return EnvState(obs, obs, reward, no, no, metrics, state.key, sim)

    spaces = (3 * num_dof + 34, num_dof + 1)
    return Env(reset, step, Spec(*(jax.ShapeDtypeStruct((n,), jnp.float32) for n in spaces)))


def goals(config: Config) -> Goals:
    """The goals of the cube, in m; their reward is 'sparse', with the config's tolerance."""
    rest = 3 * config.num_dof
    return parts.goals(rest + 13, rest + 28, config.tolerance)


def make_view(model: mujoco.MjModel, num_dof: int) -> Callable[..., View]:
    """Builds look(state, target [D], past, overrides) -> View.

    `past` [3, 3] m is the end effector at the last three actions, or None for an arm at rest.
    """
    kinematics = physics.make_kinematics(model)
    hand, cube = model.body('hand_roll').id, model.body('cube').id

    def look(state: backends.PhysicsState, target: jax.Array, past, overrides) -> View:
        qpos, qvel = state.qpos, state.qvel
        data = kinematics(qpos, randomize.physical(overrides))
        ee = data.site_xpos[0]
        past = jnp.tile(ee, (3, 1)) if past is None else past
        trail = jnp.concatenate([ee[None], past])
        return View(
            body=arm.Body(qpos[:num_dof], qvel[:num_dof], target, trail),
            ee=ee,
            hand=data.xmat[hand],
            fingers=qpos[num_dof : num_dof + 2],
            cube=qpos[num_dof + 2 : num_dof + 5],
            cube_axes=data.xmat[cube],
            cube_velocity=qvel[num_dof + 2 : num_dof + 5],
        )

    return look


def measure(config: Config, view: View, sim: Sim) -> dict[str, jax.Array]:
    """The metrics: success, grasp (0 or 1), height of the cube (m) and `arm.path_metrics`."""
    success = (sim.held >= config.hold_steps).astype(jnp.float32)
    grasp = (squeeze(view, sim.opening) > 0.5).astype(jnp.float32)
    height = view.cube[2] - gripper.CUBE_HALF
    metrics = {'success': success, 'grasp': grasp, 'height': height}
    return metrics | arm.path_metrics(view.body)


def start(config: Config, home: np.ndarray, key: Key) -> tuple[jax.Array, jax.Array]:
    """Draws positions [nq] and a goal [3] in m, see the module; the fingers are open."""
    key_pose, key_cube, key_yaw, key_goal = jax.random.split(key, 4)
    joints = parts.around(key_pose, home, jnp.full(home.shape, config.joint_noise))
    joints = parts.outwards(joints, home, config.joint_noise, config.joint_noise_inner)
    x, y = parts.around(key_cube, np.array(config.cube), np.array(config.cube_noise))
    half = parts.around(key_yaw, 0.0, config.cube_yaw) / 2
    fingers = jnp.full((2,), gripper.MAX_OPENING, jnp.float32)
    zero = jnp.zeros((), jnp.float32)
    height = zero + gripper.CUBE_HALF
    cube = jnp.stack([x, y, height, jnp.cos(half), zero, zero, jnp.sin(half)])
    goal = parts.around(key_goal, np.array(config.goal), np.array(config.goal_noise))
    return jnp.concatenate([joints, fingers, cube]), goal


def observe(view: View, sim: Sim) -> jax.Array:
    """The observation, see the module."""
    parts = (
        arm.proprioception(view.body),
        view.hand[:, 1],
        view.hand[:, 2],
        view.fingers,
        sim.opening - view.fingers,
        view.cube,
        view.cube - view.ee,
        (view.hand.T @ view.cube_axes)[:, :2].ravel(),
        view.cube_velocity,
        sim.goal,
        sim.goal - view.cube,
    )
    return jnp.concatenate(parts)


def squeeze(view: View, opening: jax.Array) -> jax.Array:
    """How hard both fingers press on a cube between them, [] in [0, 1]."""
    between = jnp.linalg.norm(view.cube - view.ee) < 0.025
    return between * jnp.clip(jnp.min(view.fingers - opening) / 0.005, 0.0, 1.0)


def shaped(view: View, sim: Sim, there: jax.Array) -> jax.Array:
    """The shaped reward [] without the cost of the action, see the module."""
    to_cube = jnp.linalg.norm(view.cube - view.ee)
    to_goal = jnp.linalg.norm(view.cube - sim.goal)
    side = view.hand[:, 1] @ view.cube_axes[:, 1]  # cosine of the fingers' turn from the cube's
    parallel = (2.0 * side**2 - 1.0) ** 2  # cos^2 of twice that turn: 1 at every quarter
    aligned = 0.5 * parallel - 0.5 * view.hand[2, 2]
    lift = jnp.clip((view.cube[2] - gripper.CUBE_HALF) / 0.05, 0.0, 1.0) * (to_cube < 0.05)
    near, close = 1.0 - jnp.tanh(5.0 * to_cube), 1.0 - jnp.tanh(5.0 * to_goal)
    grasp = squeeze(view, sim.opening)
    return 0.2 * (near + 0.3 * aligned + grasp + lift + 3.0 * lift * close + there)


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T]: the arm, the cube and its goal (green)."""
    model = gripper.make_model(config.num_dof)
    sim = jax.device_get(parts.find(states.sim, Sim))
    qpos, shape = sim.physics.qpos, (height, width)
    return pictures.render(model, qpos, sim.goal, None, (0.0, 0.0), shape, 0.025, 1.1)


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 1.0 / arm.CONTROL_DT
