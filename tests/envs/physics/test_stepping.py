# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Our walk along the links leaves the physics alone, and leaves MJX as it was."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.envs.physics import links
from jaxpolicy.envs.physics import stepping as physics

LINK = (
    '<body pos="0 0 {pos}"><joint axis="{axis}" damping="1"/>'
    '<geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.04"/>'
)
_OPTION = '<option jacobian="dense"><flag contact="disable" constraint="disable"/></option>'
_MJCF = '<mujoco>' + _OPTION + '<worldbody>{}</worldbody></mujoco>'
_TIP = '<site name="tip" pos="0 0 0.3"/>'
_BASE = LINK.format(pos=0, axis='0 1 0')
_MIDDLE, _LAST = LINK.format(pos=0.3, axis='1 0 0'), LINK.format(pos=0.3, axis='0 1 0')
CHAIN = _MJCF.format(_BASE + _MIDDLE + _LAST + _TIP + '</body>' * 3)
FORK = _MJCF.format(_BASE + _MIDDLE + _TIP + '</body>' + _LAST + '</body></body>')


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('robot', [CHAIN, FORK])
def test_the_walk_gives_what_mjxs_own_gives(robot, reverse):
    model = physics.put(mujoco.MjModel.from_xml_string(robot))[0]

    def link(carry, joint_types, axis, body):
        total = body if carry is None else carry[0] + 2.0 * body
        return total, axis * len(joint_types) + total, axis[:, 0]

    args = model.jnt_type, jnp.arange(9.0).reshape(3, 3), jnp.arange(4.0) + 1.0
    walked = vars(links.scan)['body_tree'](model, link, 'jjb', 'bjv', *args, reverse=reverse)
    with links.walk():
        ours = vars(links.scan)['body_tree'](model, link, 'jjb', 'bjv', *args, reverse=reverse)
    for a, b in zip(ours, walked, strict=True):
        np.testing.assert_array_equal(a, b)


def test_links_that_mjx_tells_apart_while_tracing_are_not_one_loop():
    model = physics.put(mujoco.MjModel.from_xml_string(CHAIN))[0]
    kinds = np.array([0, 1, 2, 1])  # of the bodies

    def link(carry, kind, mass):
        return kind * mass + (0.0 if carry is None else carry)

    with links.walk():
        found = vars(links.scan)['body_tree'](model, link, 'bb', 'b', kinds, jnp.full(4, 3.0))
    np.testing.assert_array_equal(found, [0.0, 3.0, 9.0, 12.0])


def test_the_walk_reaches_the_program_and_is_removed_again():
    original = vars(links.scan)['body_tree']
    for model, mark in ((CHAIN, 'scan['), (FORK, 'optimization_barrier')):
        kinematics = physics.make_kinematics(mujoco.MjModel.from_xml_string(model))
        program = str(jax.make_jaxpr(lambda q, k=kinematics: k(q).site_xpos)(jnp.zeros(3)))
        assert mark in program
        assert vars(links.scan)['body_tree'] is original
    with pytest.raises(KeyError), links.walk():
        raise KeyError
    assert vars(links.scan)['body_tree'] is original


def test_another_mjx_is_left_alone_with_a_warning(monkeypatch):
    def other(model, function):
        return model, function

    monkeypatch.setattr(links.scan, 'body_tree', other)
    with pytest.warns(UserWarning, match='body_tree has changed'), links.walk():
        assert vars(links.scan)['body_tree'] is other


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
