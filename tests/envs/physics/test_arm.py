# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""The arm against native MuJoCo, and its limits."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.envs.physics import arm

HOME = (0.2, 1.8, 1.1)


def test_moves_are_those_of_native_mujoco_within_the_limits():
    robot = arm.make(7, HOME)
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.home
    target = robot.home.astype(np.float64)
    body, move = jax.jit(robot.start)(jnp.asarray(robot.home)), jax.jit(robot.move)
    for change in np.random.default_rng(0).uniform(-0.05, 0.05, (8, 7)).astype(np.float32):
        body, pose = move(body, change)
        target += change
        data.ctrl[:] = target
        mujoco.mj_step(robot.model, data, arm.NUM_SUBSTEPS)
        mujoco.mj_kinematics(robot.model, data)
        np.testing.assert_allclose(body.trail[0], data.site('ee').xpos, atol=1e-5)
        np.testing.assert_array_equal(body.trail[0], pose.ee)
    np.testing.assert_allclose(body.qpos, data.qpos, atol=1e-5)
    np.testing.assert_allclose(body.qvel, data.qvel, atol=1e-3)
    for change, limit in ((100.0, robot.high), (-100.0, robot.low)):
        pushed, _ = move(body, jnp.full((7,), change, jnp.float32))
        np.testing.assert_array_equal(
            move(body, jnp.full((7,), change, jnp.float32))[0].target, limit
        )


@pytest.mark.parametrize('num_dof', [7, 6])
def test_poses_are_those_of_native_mujoco(num_dof):
    robot = arm.make(num_dof, HOME)
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.home + np.random.default_rng(0).uniform(-1.0, 1.0, num_dof)
    mujoco.mj_forward(robot.model, data)
    pose = jax.jit(robot.pose)(jnp.asarray(data.qpos, jnp.float32))
    ee, spin = np.zeros((3, num_dof)), np.zeros((3, num_dof))
    mujoco.mj_jacSite(robot.model, data, ee, spin, 0)
    np.testing.assert_allclose(pose.ee, data.site('ee').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.wrist, data.body('wrist_pitch').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.elbow, data.body('elbow_pitch').xpos, atol=1e-5)
    np.testing.assert_allclose(pose.jacobian, ee, atol=1e-5)
    np.testing.assert_allclose(pose.spin, spin, atol=1e-5)


def test_lengths_are_those_of_the_docstring():
    for num_dof in (6, 7):
        model = arm.make(num_dof, HOME).model
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)  # joints at 0: straight up
        heights = [data.body(name).xpos[2] for name in ('shoulder_pitch', 'elbow_pitch')]
        heights += [data.body('wrist_pitch').xpos[2], data.site('ee').xpos[2]]
        np.testing.assert_allclose(heights, [0.4, 0.8, 1.2, 1.45])


def test_jerk_is_the_third_difference():
    ends = jnp.array([0.0, 1.0, 8.0, 27.0])[::-1]  # t^3 cm, newest first: third difference 6
    trail = jnp.zeros((4, 3)).at[:, 1].set(0.01 * ends)
    metrics = arm.path_metrics(arm.Body(jnp.zeros(7), jnp.zeros(7), jnp.zeros(7), trail))
    assert float(metrics['jerk']) == pytest.approx(0.06 / 0.05**3, rel=1e-5)
    assert float(metrics['ee_y']) == pytest.approx(0.27)


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match='num_dof must be 6 or 7, found 5'):
        arm.make(5, HOME)
