# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""The physics engines agree with MuJoCo's own loop and with each other, however they are called."""

import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxpolicy.envs.physics import backends

NUM_SUBSTEPS = 4

# A ball that falls on the floor beside a pole whose motor has a state of its own.
MODEL = """
<mujoco>
  <option timestep="0.005" jacobian="dense" iterations="10" ls_iterations="20"/>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 0.1"/>
    <body name="ball" pos="0 0 0.12">
      <freejoint/>
      <geom name="ball" size="0.1" mass="1" contype="0" conaffinity="0"/>
    </body>
    <body pos="1 0 1">
      <joint name="pole" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.02" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <contact><pair geom1="ball" geom2="floor" condim="1"/></contact>
  <actuator>
    <general joint="pole" dyntype="filter" dynprm="0.02" gainprm="5" biasprm="0 -5 0"
      biastype="affine"/>
  </actuator>
</mujoco>
"""


@pytest.fixture(scope='module')
def model():
    return mujoco.MjModel.from_xml_string(MODEL)


@pytest.fixture(scope='module')
def native(model):
    return backends.make(model, NUM_SUBSTEPS, 'native')


@pytest.fixture(scope='module')
def mjx_step(model):
    """MJX is slow to compile: one function, whose overrides are always there."""
    physics = backends.make(model, NUM_SUBSTEPS, 'mjx')
    return jax.jit(jax.vmap(physics.step))


def _overrides(model, num):
    """The model's own gravity and masses, for every world."""
    gravity, mass = (np.tile(x, (num, 1)) for x in (model.opt.gravity, model.body_mass))
    return {'opt.gravity': jnp.asarray(gravity), 'body_mass': jnp.asarray(mass)}


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


def _worlds(physics, model, num, seed=0):
    """Balls just above the floor with random velocities, and controls [num, 1]."""
    rng = np.random.default_rng(seed)
    qpos = np.tile(model.qpos0, (num, 1)).astype(np.float32)
    qpos[:, :3] += rng.uniform(-0.02, 0.02, (num, 3))
    qvel = rng.uniform(-0.5, 0.5, (num, model.nv)).astype(np.float32)
    ctrl = rng.uniform(-1, 1, (num, 1)).astype(np.float32)
    return jax.vmap(physics.start)(jnp.asarray(qpos), jnp.asarray(qvel)), jnp.asarray(ctrl)


def _loop(model, state, ctrl, num_steps):
    """What MuJoCo itself makes of one world, with a state cut to float32 after every step."""
    data = mujoco.MjData(model)
    state = jax.tree.map(np.asarray, state)
    names = {'qpos': 'qpos', 'qvel': 'qvel', 'act': 'act', 'warmstart': 'qacc_warmstart'}
    for _ in range(num_steps):
        for name, field in names.items():
            getattr(data, field)[:] = getattr(state, name)
        data.ctrl[:] = ctrl
        mujoco.mj_step(model, data, NUM_SUBSTEPS)
        cut = {name: getattr(data, field).astype(np.float32) for name, field in names.items()}
        state = state.replace(**cut)
    return state


def _scan(physics, length):
    step = jax.vmap(physics.step)

    def run(state, ctrl):
        def one(state, _):
            return step(state, ctrl), None

        return jax.lax.scan(one, state, None, length)[0]

    return run


def _assert_equal(one, other):
    """Bit by bit, but for numbers below 1e-37, which XLA may round to zero."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-37), one, other)


def test_native_is_mujoco_in_a_scan_with_a_donated_state(native, model):
    state, ctrl = _worlds(native, model, 6)
    expected = [
        _loop(model, jax.tree.map(lambda x, i=i: x[i], state), ctrl[i], 30) for i in range(6)
    ]
    found = jax.jit(_scan(native, 30), donate_argnums=0)(state, ctrl)
    _assert_equal(found, jax.tree.map(lambda *x: np.stack(x), *expected))
    assert (np.asarray(found.qpos[:, 2]) < 0.12).all()  # the balls lie on the floor
    assert np.abs(found.act).min() > 0.0


def test_native_is_pure_and_the_same_under_every_vmap(native, model):
    state, ctrl = _worlds(native, model, 6)
    step = jax.jit(jax.vmap(native.step))
    many = step(state, ctrl)
    step(*_worlds(native, model, 6, seed=1))  # leaves nothing behind
    _assert_equal(step(state, ctrl), many)
    one = jax.jit(native.step)(jax.tree.map(lambda x: x[2], state), ctrl[2])
    _assert_equal(one, jax.tree.map(lambda x: x[2], many))
    folded = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), (state, ctrl))
    nested = jax.jit(jax.vmap(jax.vmap(native.step)))(*folded)
    _assert_equal(jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), nested), many)
    shared = jax.vmap(native.step, (0, None))(state, ctrl[0])  # the control is not mapped
    _assert_equal(shared, step(state, jnp.tile(ctrl[:1], (6, 1))))


def test_native_agrees_with_mjx(native, mjx_step, model):
    """To 1e-5 after a step, and 1e-3 after a second of balls that land and come to rest."""
    first, ctrl = _worlds(native, model, 16)
    same = _overrides(model, 16)
    ends = []
    for step in (jax.jit(jax.vmap(native.step)), mjx_step):
        state = first
        ends.append([state := step(state, ctrl, same) for _ in range(50)])
        assert _types(state) == _types(first)
    for index, tolerance in ((0, 1e-5), (-1, 1e-3)):
        found, expected = (states[index] for states in ends)
        np.testing.assert_allclose(found.qpos, expected.qpos, atol=tolerance)
        np.testing.assert_allclose(found.act, expected.act, atol=tolerance)


def test_overrides_differ_between_worlds(native, mjx_step, model):
    state, ctrl = _worlds(native, model, 16)
    plain = jax.vmap(native.step)(state, ctrl)
    same = jax.vmap(native.step)(state, ctrl, _overrides(model, 16))
    np.testing.assert_allclose(same.qpos, plain.qpos, atol=1e-7)  # rounded to float32
    other = _overrides(model, 16)
    other['opt.gravity'] = other['opt.gravity'].at[1].set(0.0)
    other['body_mass'] = other['body_mass'].at[2].multiply(3.0)
    found, expected = jax.vmap(native.step)(state, ctrl, other), mjx_step(state, ctrl, other)
    for states in (found, expected):
        np.testing.assert_allclose(states.qpos[0], plain.qpos[0], atol=1e-5)
        np.testing.assert_allclose(states.qvel[1, :3], state.qvel[1, :3], atol=1e-5)  # it floats
        assert np.abs(states.qvel[2, 6] - plain.qvel[2, 6]) > 1e-3  # a heavier pole
    np.testing.assert_allclose(found.qpos, expected.qpos, atol=1e-5)
    # one override shared by all worlds; and none afterwards
    heavy = {'body_mass': other['body_mass'][2]}
    shared = jax.vmap(native.step, (0, 0, None))(state, ctrl, heavy)
    np.testing.assert_array_equal(shared.qvel[2], found.qvel[2])
    _assert_equal(jax.vmap(native.step)(state, ctrl), plain)


def test_a_diverged_world_keeps_its_nan(native, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file there
    state, ctrl = _worlds(native, model, 3)
    broken = state.replace(qpos=state.qpos.at[1, 0].set(jnp.nan))
    plain, found = (jax.vmap(native.step)(s, ctrl) for s in (state, broken))
    assert np.isnan(found.qpos[1]).any()
    for world in (0, 2):
        np.testing.assert_array_equal(found.qpos[world], plain.qpos[world])


def test_native_gives_the_same_on_several_devices(native, model):
    state, ctrl = _worlds(native, model, 8)
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put((state, ctrl), NamedSharding(mesh, PartitionSpec('data')))
    run = jax.jit(_scan(native, 3))
    _assert_equal(run(*spread), run(state, ctrl))


def test_auto_is_native_on_one_cpu_device(monkeypatch):
    assert backends.resolve('auto') == 'mjx'  # the tests run on eight
    monkeypatch.setattr(jax, 'device_count', lambda: 1)
    assert backends.resolve('auto') == 'native'
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert backends.resolve('auto') == 'mjx'
    assert backends.resolve('warp') == 'warp'


def test_what_cannot_run_says_so(model, monkeypatch):
    with pytest.raises(ValueError, match=r"backend: expected one of .*found 'bullet'"):
        backends.make(model, 1, 'bullet')
    delayed = MODEL.replace('dynprm="0.02"', 'dynprm="0.02" nsample="4" delay="0.01"')
    with pytest.raises(ValueError, match='numbers of history'):
        backends.make(mujoco.MjModel.from_xml_string(delayed), 1, 'native')
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'warp', None)
        with pytest.raises(ImportError, match='pip install'):
            backends.make(model, 1, 'warp')
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    with pytest.raises(ValueError, match="'native': expected JAX on a CPU, found gpu"):
        backends.make(model, 1, 'native')


@pytest.mark.slow
def test_warp_agrees_with_mjx(mjx_step, model):
    pytest.importorskip('warp')
    warp = backends.make(model, NUM_SUBSTEPS, 'warp', max_worlds=16)
    state, ctrl = _worlds(warp, model, 16)
    found, expected, step = state, state, jax.jit(jax.vmap(warp.step))
    for _ in range(20):
        found, expected = step(found, ctrl), mjx_step(expected, ctrl, _overrides(model, 16))
    np.testing.assert_allclose(found.qpos, expected.qpos, atol=1e-3)
