# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""A robot arm of primitive shapes with position-controlled joints, moved by MJX.

The base stands at the origin, x points ahead, z up, and the arm's home pose lies in the plane
y = 0, so that tasks can be mirror images left and right of it. The arm has a vertical column of
0.40 m, an upper arm and a forearm of 0.40 m each, and a hand of 0.25 m, whose tip is the end
effector ('ee').

The seven joints are shoulder yaw, shoulder pitch, upper-arm roll, elbow pitch, forearm roll, wrist
pitch and hand roll. The 6-DoF arm has no upper-arm roll.

Gravity is off, as if the arm's own controller compensated it. For speed there are no contacts and
no constraints: in place of joint limits, the targets of the position controllers are clipped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from jaxpolicy.envs.physics import stepping as physics
from jaxpolicy.envs.wrap import randomize
from jaxpolicy.types import Key

PyTree = Any
T = TypeVar('T')

CONTROL_DT = 0.05  # s, one action (20 Hz)
TIMESTEP = 0.01  # s, one physics step
NUM_SUBSTEPS = round(CONTROL_DT / TIMESTEP)
HAND_RADIUS = 0.03  # m
FOREARM_RADIUS = 0.04  # m

_MJCF = """
<mujoco model="arm">
  <option integrator="Euler" timestep="{timestep}" jacobian="dense" gravity="0 0 0">
    <flag contact="disable" constraint="disable"/>
  </option>
  <visual>
    <global offwidth="1280" offheight="960"/>
    <headlight ambient="0.3 0.3 0.3" diffuse="0.3 0.3 0.3" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="grid" type="2d" builtin="checker" width="256" height="256"
      rgb1="0.72 0.75 0.78" rgb2="0.62 0.65 0.69"/>
    <texture type="skybox" builtin="gradient" rgb1="0.92 0.94 0.96" rgb2="0.75 0.8 0.85"
      width="64" height="64"/>
    <material name="grid" texture="grid" texrepeat="12 12"/>
  </asset>
  <default>
    <geom density="600" contype="0" conaffinity="0" rgba="0.95 0.78 0.45 1"/>
    <joint type="hinge" limited="false" armature="0.1"/>
  </default>
  <worldbody>
    <light pos="0.3 -0.8 2.5" dir="0 0.3 -1" directional="true" diffuse="0.5 0.5 0.5"
      specular="0 0 0"/>
    <geom type="plane" size="3 3 0.1" material="grid" rgba="1 1 1 1"/>
    <geom type="cylinder" fromto="0 0 0 0 0 0.3" size="0.09" rgba="0.25 0.27 0.3 1"/>
    {bodies}
  </worldbody>
  <actuator>
    {actuators}
  </actuator>
</mujoco>
"""


class Joint(NamedTuple):
    """One joint and the capsule that it turns."""

    name: str
    axis: str
    offset: float  # m along z from the parent's frame
    length: float  # m along z, of the capsule
    radius: float  # m
    gain: float  # N m / rad
    damping: float  # N m s / rad; nearly critical for the inertia that this joint moves
    limit: float  # rad from home, either way


_JOINTS = (
    Joint('shoulder_yaw', '0 0 1', 0.30, 0.10, 0.07, 600.0, 50.0, 2.4),
    Joint('shoulder_pitch', '0 1 0', 0.10, 0.20, 0.055, 600.0, 50.0, 1.8),
    Joint('upper_arm_roll', '0 0 1', 0.20, 0.20, 0.055, 400.0, 25.0, 2.4),
    Joint('elbow_pitch', '0 1 0', 0.20, 0.20, FOREARM_RADIUS, 400.0, 25.0, 1.8),
    Joint('forearm_roll', '0 0 1', 0.20, 0.20, FOREARM_RADIUS, 150.0, 8.0, 2.4),
    Joint('wrist_pitch', '0 1 0', 0.20, 0.15, HAND_RADIUS, 150.0, 8.0, 1.8),
    Joint('hand_roll', '0 0 1', 0.15, 0.10, HAND_RADIUS, 100.0, 6.0, 2.4),
)


class Body(struct.PyTreeNode):
    """The arm's state between two actions."""

    qpos: jax.Array  # [D] rad
    qvel: jax.Array  # [D] rad/s
    target: jax.Array  # [D] rad, of the position controllers
    trail: jax.Array  # [4, 3] m, the end effector now and at the last three actions
    overrides: dict[str, jax.Array] = struct.field(default_factory=dict)  # what this episode drew


class Pose(NamedTuple):
    """Where the arm's outer parts are, and how they move with the joints."""

    elbow: jax.Array  # [3] m
    wrist: jax.Array  # [3] m
    ee: jax.Array  # [3] m
    direction: jax.Array  # [3] unit vector along the hand
    jacobian: jax.Array  # [3, D] m/rad, Jacobian of the end effector's position
    spin: jax.Array  # [3, D], Jacobian of the hand's angular velocity


class Arm(NamedTuple):
    """An arm: its constants and its functions."""

    model: mujoco.MjModel
    home: np.ndarray  # [D] rad
    low: np.ndarray  # [D] rad, of the targets
    high: np.ndarray  # [D] rad
    draw: Callable[[Any, Key], dict[str, jax.Array]]  # (the task's Config, key) -> overrides
    start: Callable[..., Body]  # (qpos [D], overrides={}) -> Body at rest
    move: Callable[[Body, jax.Array], tuple[Body, Pose]]  # (body, change of targets [D] rad)
    pose: Callable[..., Pose]  # (qpos [D], overrides={}) -> Pose


def joints(num_dof: int) -> tuple[Joint, ...]:
    """The joints of the 7-DoF or the 6-DoF arm, from the base.

    Raises:
      ValueError: there is no such arm.
    """
    if num_dof not in (6, 7):
        raise ValueError(f'num_dof must be 6 or 7, found {num_dof}')
    return tuple(j for j in _JOINTS if num_dof == 7 or j.name != 'upper_arm_roll')


def mjcf(num_dof: int) -> str:
    """The arm's model as MJCF."""
    bodies, offset_left = '', 0.0
    chain = joints(num_dof)
    removed = {'shoulder_pitch': 0.20} if num_dof == 6 else {}  # the upper arm becomes one link
    for joint in chain:
        length = joint.length + removed.get(joint.name, 0.0)
        bodies += (
            f'<body name="{joint.name}" pos="0 0 {joint.offset + offset_left}">'
            f'<joint name="{joint.name}" axis="{joint.axis}" damping="{joint.damping}"/>'
            f'<geom type="capsule" fromto="0 0 0 0 0 {length}" size="{joint.radius}"/>'
        )
        offset_left = removed.get(joint.name, 0.0)
    bodies += '<site name="ee" pos="0 0 0.10" size="0.01"/>' + '</body>' * len(chain)
    actuators = ''.join(
        f'<position name="{j.name}" joint="{j.name}" kp="{j.gain}"/>' for j in chain
    )
    return _MJCF.format(timestep=TIMESTEP, bodies=bodies, actuators=actuators)


def make(num_dof: int, home: tuple[float, float, float], draw: randomize.Draw | None = None) -> Arm:
    """Builds an arm.

    Args:
      num_dof: 7 or 6.
      home: pitch of the shoulder, the elbow and the wrist in rad; all other joints rest at 0.
      draw: draws what varies from episode to episode; None: nothing varies.

    Raises:
      ValueError: there is no such arm.
    """
    chain = joints(num_dof)
    pitches = iter(home)
    rest = np.array([next(pitches) if 'pitch' in j.name else 0.0 for j in chain], np.float32)
    limit = np.array([j.limit for j in chain], np.float32)
    names = [j.name for j in chain]
    model = mujoco.MjModel.from_xml_string(mjcf(num_dof))
    advance = physics.make_step(model, NUM_SUBSTEPS)
    kinematics = physics.make_kinematics(model)
    low, high = rest - limit, rest + limit

    device_model = physics.put(model)[0] if draw else None

    def draw_one(config: Any, key: Key) -> dict[str, jax.Array]:
        return draw(device_model, config, key) if draw else {}

    def pose(qpos: jax.Array, overrides: randomize.Overrides | None = None) -> Pose:
        data = kinematics(qpos, randomize.physical(overrides or {}))
        ee = data.site_xpos[0]
        elbow = data.xanchor[names.index('elbow_pitch')]
        wrist = data.xanchor[names.index('wrist_pitch')]
        reach = (ee - wrist) / jnp.linalg.norm(ee - wrist)
        jacobian = jnp.cross(data.xaxis, ee - data.xanchor).T
        return Pose(elbow, wrist, ee, reach, jacobian, data.xaxis.T)

    def start(qpos: jax.Array, overrides: randomize.Overrides | None = None) -> Body:
        trail = jnp.tile(pose(qpos, overrides).ee, (4, 1))
        return Body(qpos, jnp.zeros_like(qpos), qpos, trail, dict(overrides or {}))

    def move(body: Body, change: jax.Array) -> tuple[Body, Pose]:
        target = jnp.clip(body.target + change, low, high)
        physical = randomize.physical(body.overrides)
        qpos, qvel = advance(body.qpos, body.qvel, target, physical)
        now = pose(qpos, physical)
        trail = jnp.concatenate([now.ee[None], body.trail[:-1]])
        return Body(qpos, qvel, target, trail, body.overrides), now

    return Arm(model, rest, low, high, draw_one, start, move, pose)


def proprioception(body: Body) -> jax.Array:
    """[3 D + 3]: joint positions (rad), velocities (rad/s), target minus position (rad), ee (m)."""
    return jnp.concatenate([body.qpos, body.qvel, body.target - body.qpos, body.trail[0]])


def path_metrics(body: Body) -> dict[str, jax.Array]:
    """The end effector's position in m, and its jerk in m/s^3, which is lower for smoother paths.

    'jerk' is the norm of the third difference of the positions at the last four actions, divided by
    CONTROL_DT^3. The arm counts as at rest before the episode.
    """
    p = body.trail
    third = p[0] - 3.0 * p[1] + 3.0 * p[2] - p[3]
    jerk = jnp.linalg.norm(third) / CONTROL_DT**3
    return {'ee_x': p[0, 0], 'ee_y': p[0, 1], 'ee_z': p[0, 2], 'jerk': jerk}
