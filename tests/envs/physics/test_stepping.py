# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""The kinematic-chain barrier leaves the physics alone, and leaves MJX as it was."""

import contextlib

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.envs.physics import stepping as physics

LINK = (
    '<body pos="0 0 {pos}"><joint axis="{axis}" damping="1"/>'
    '<geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.04"/>'
)
CHAIN = (
    '<mujoco><option jacobian="dense"><flag contact="disable" constraint="disable"/></option>'
    '<worldbody>'
    + LINK.format(pos=0, axis='0 1 0')
    + LINK.format(pos=0.3, axis='1 0 0')
    + LINK.format(pos=0.3, axis='0 1 0')
    + '<site name="tip" pos="0 0 0.3"/></body></body></body></worldbody></mujoco>'
)


def _simulate():
    """Joint positions and velocities of two chains after a fall of 0.1 s, and their tips."""
    model = mujoco.MjModel.from_xml_string(CHAIN)
    step, kinematics = physics.make_step(model, 50), physics.make_kinematics(model)

    def fall(qpos):
        qpos, qvel = step(qpos, jnp.zeros(3), jnp.zeros(0))
        return qpos, qvel, kinematics(qpos).site_xpos[0]

    start = jnp.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.3]])
    return start, *jax.jit(jax.vmap(fall))(start)


def test_results_agree_with_and_without_the_barrier(monkeypatch):
    start, *fenced = _simulate()
    monkeypatch.setattr(physics, 'chain_barrier', contextlib.nullcontext)
    _, *plain = _simulate()
    for a, b in zip(fenced, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(fenced[0] - start).max() > 0.01


def test_the_barrier_reaches_the_program_and_is_removed_again():
    original = vars(physics.scan)['body_tree']
    kinematics = physics.make_kinematics(mujoco.MjModel.from_xml_string(CHAIN))
    program = str(jax.make_jaxpr(lambda q: kinematics(q).site_xpos)(jnp.zeros(3)))
    assert 'optimization_barrier' in program
    assert vars(physics.scan)['body_tree'] is original
    with pytest.raises(KeyError), physics.chain_barrier():
        raise KeyError
    assert vars(physics.scan)['body_tree'] is original


def test_another_mjx_is_left_alone_with_a_warning(monkeypatch):
    def other(model, function):
        return model, function

    monkeypatch.setattr(physics.scan, 'body_tree', other)
    with pytest.warns(UserWarning, match='body_tree has changed'), physics.chain_barrier():
        assert vars(physics.scan)['body_tree'] is other


def test_a_model_with_constraints_is_refused():
    with pytest.raises(ValueError, match='disableflags'):
        physics.make_step(mujoco.MjModel.from_xml_string('<mujoco/>'), 1)


def test_worlds_run_sharded_over_devices():
    mesh = jax.make_mesh((2,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    kinematics = physics.make_kinematics(mujoco.MjModel.from_xml_string(CHAIN))
    qpos = jax.device_put(jnp.zeros((4, 3)), shard)
    tips = jax.jit(jax.vmap(lambda q: kinematics(q).site_xpos[0]))(qpos)
    assert len(tips.sharding.device_set) == 2
    np.testing.assert_allclose(tips, np.tile([0.0, 0.0, 0.9], (4, 1)), atol=1e-6)
