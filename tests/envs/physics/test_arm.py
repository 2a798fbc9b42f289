# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""The arm against native MuJoCo, its limits, and what an episode draws."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.wrap import randomize

HOME = (0.2, 1.8, 1.1)
ENTRIES = {
    'mass': ('body_mass+body_inertia', 'scale', 'uniform', 0.5, 2.0),
    'kp': ('actuator_gainprm[0]+actuator_biasprm[1]', 'scale', 'log_uniform', 0.5, 2.0),
    'damping': ('dof_damping', 'add', 'normal', 5.0, 1.0, 'elbow_pitch', 'wrist_pitch'),
    'speed': ('env.action_scale', 'set', 'uniform', 0.02, 0.08),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """A task's, as far as something of it is drawn."""

    action_scale: float = 0.05


@pytest.fixture(scope='module')
def robot():
    return arm.make(7, HOME, randomize.drawer(randomize.parse(ENTRIES)))


@pytest.fixture(scope='module')
def drawn(robot):
    return jax.device_get(jax.jit(lambda key: robot.draw(Config(), key))(jax.random.key(3)))


@pytest.fixture(scope='module')
def move(robot):
    """Compiled once, so it always gets the fields that are drawn."""
    return jax.jit(robot.move)


def _body(robot, ee, velocity, overrides):
    """At home."""
    qvel, trail = np.full((7,), velocity, np.float32), np.tile(np.float32(ee), (4, 1))
    return arm.Body(robot.home, qvel, robot.home, trail, overrides)


def _check(model, pose, qpos):
    """Compares a pose with that of native MuJoCo."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    ee, spin = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    mujoco.mj_jacSite(model, data, ee, spin, 0)
    np.testing.assert_allclose(pose.ee, data.site('ee').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.wrist, data.body('wrist_pitch').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.elbow, data.body('elbow_pitch').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.jacobian, ee, atol=1e-5)
    np.testing.assert_allclose(pose.spin, spin, atol=1e-5)
    hand = data.site('ee').xpos - data.body('wrist_pitch').xpos
    np.testing.assert_allclose(pose.direction, hand / np.linalg.norm(hand), atol=1e-4)


def test_moves_and_poses_are_those_of_native_mujoco_within_the_limits(robot, drawn, move):
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.home
    mujoco.mj_kinematics(robot.model, data)
    target = robot.home.astype(np.float64)
    own = {name: np.float32(getattr(robot.model, name)) for name in randomize.physical(drawn)}
    own['env.action_scale'] = np.float32(0.05)
    body = _body(robot, data.site('ee').xpos, 0.0, own)
    for change in np.random.default_rng(0).uniform(-0.05, 0.05, (8, 7)).astype(np.float32):
        body, pose = move(body, change)
        target += change
        data.ctrl[:] = target
        mujoco.mj_step(robot.model, data, arm.NUM_SUBSTEPS)
        mujoco.mj_kinematics(robot.model, data)
        np.testing.assert_allclose(body.trail[0], data.site('ee').xpos, atol=1e-5)
        np.testing.assert_array_equal(body.trail[0], pose.ee)
        _check(robot.model, pose, body.qpos)
    np.testing.assert_allclose(body.qpos, data.qpos, atol=1e-5)
    np.testing.assert_allclose(body.qvel, data.qvel, atol=1e-3)
    for change, limit in ((100.0, robot.high), (-100.0, robot.low)):
        pushed, _ = move(body, np.full((7,), change, np.float32))
        np.testing.assert_array_equal(pushed.target, limit)


def test_what_was_drawn_acts_as_in_a_model_edited_by_hand(robot, drawn, move):
    edited = mujoco.MjModel.from_xml_string(arm.mjcf(7))
    ends = []
    for values in ({}, randomize.physical(drawn)):
        for name, value in values.items():
            getattr(edited, name)[:] = value
        data = mujoco.MjData(edited)
        data.qpos[:], data.qvel[:] = robot.home, 0.3
        data.ctrl[:] = robot.home + 0.1
        mujoco.mj_step(edited, data, arm.NUM_SUBSTEPS)
        ends.append(data.qpos)
    body = _body(robot, np.zeros(3), 0.3, drawn)
    moved, _ = move(body, np.full((7,), 0.1, np.float32))
    np.testing.assert_allclose(moved.qpos, ends[1], atol=2e-5)
    assert np.abs(ends[0] - moved.qpos).max() > 1e-3


def test_the_short_arm_starts_at_rest_in_the_pose_of_native_mujoco():
    robot = arm.make(6, HOME)
    qpos = (robot.home + np.random.default_rng(0).uniform(-1.0, 1.0, 6)).astype(np.float32)
    body, pose = jax.jit(lambda qpos: (robot.start(qpos), robot.pose(qpos)))(qpos)
    _check(robot.model, pose, qpos)
    np.testing.assert_allclose(body.trail, np.tile(pose.ee, (4, 1)), atol=1e-6)
    np.testing.assert_array_equal(body.qpos, qpos)
    np.testing.assert_array_equal(body.target, qpos)
    assert body.overrides == {} and not np.asarray(body.qvel).any()


def test_lengths_are_those_of_the_docstring():
    for num_dof in (6, 7):
        model = arm.make(num_dof, HOME).model
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)  # joints at 0: straight up
        heights = [data.body(name).xpos[2] for name in ('shoulder_pitch', 'elbow_pitch')]
        heights += [data.body('wrist_pitch').xpos[2], data.site('ee').xpos[2]]
        np.testing.assert_allclose(heights, [0.4, 0.8, 1.2, 1.45])


def test_jerk_is_the_third_difference():
    trail = np.zeros((4, 3), np.float32)
    trail[:, 1] = [0.27, 0.08, 0.01, 0.0]  # t^3 cm, newest first: third difference 6
    rest = jnp.asarray(np.zeros(7, np.float32))
    metrics = jax.jit(arm.path_metrics)(arm.Body(rest, rest, rest, jnp.asarray(trail)))
    assert float(metrics['jerk']) == pytest.approx(0.06 / 0.05**3, rel=1e-5)
    assert float(metrics['ee_y']) == pytest.approx(0.27)


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match='num_dof must be 6 or 7, found 5'):
        arm.make(5, HOME)
