# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Physics engines behind one pure function, for models with contacts and constraints.

  mjx     MJX-JAX runs on any device that XLA knows, is differentiable, and is sharded like any
          other JAX code.
  native  MuJoCo's C engine runs on all CPU cores: vmapped worlds become one call of `mujoco.batch`,
          which steps them on a pool of threads. It has no gradients and no compilation cache.
  warp    MJX-Warp runs on NVIDIA GPUs and needs the extra `warp`. On a CPU it is slow and serves
          for tests. Its contact buffers have a fixed size and overflow silently: see `make`.
  auto    This is native where JAX runs on one CPU device, else mjx (docs/performance.md).

All of them step the same model from the same small state. Everything that one step leaves for the
next is in this state, so that it can be stored, mixed and reset anywhere inside jit. The C engine
computes in float64 and the others in float32. So single steps agree to rounding, and trajectories
with contacts agree until they meet something unstable.
"""

import copy
import math
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax.experimental import buffer_callback
from mujoco import batch as mujoco_batch
from mujoco import mjx

from jaxpolicy.envs.physics import stepping as physics

BACKENDS = ('auto', 'mjx', 'native', 'warp')

_FIELDS = {'qpos': 'qpos', 'qvel': 'qvel', 'act': 'act', 'warmstart': 'qacc_warmstart'}  # MuJoCo's


class PhysicsState(struct.PyTreeNode):
    """All that a model remembers between two timesteps."""

    qpos: jax.Array  # [nq]
    qvel: jax.Array  # [nv]
    act: jax.Array | None  # [na], state of the actuators, None where they have none
    warmstart: jax.Array  # [nv], accelerations from which the constraint solver starts


class Physics(NamedTuple):
    """One model in one engine; its functions are unbatched and meant for vmap.

    start(qpos [nq], qvel [nv]) -> PhysicsState
    step(state, ctrl [nu], overrides={}) -> PhysicsState, `num_substeps` timesteps later;
        `overrides` are the fields of the model that differ between worlds or episodes, by name
        ('geom_friction', 'opt.gravity'), each an array of the field's whole shape.
    """

    backend: str  # never 'auto'
    start: Callable[[jax.Array, jax.Array], PhysicsState]
    step: Callable[..., PhysicsState]


def resolve(backend: str) -> str:
    """The engine that a name means on this machine.

    'auto' is native on one CPU device: on two cores it multiplies the speed of training on `pick`
    (docs/performance.md). With several CPU devices it is mjx, because with native every device
    would step all the worlds.

    Raises:
      ValueError: the name is unknown.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend: expected one of {BACKENDS}, found {backend!r}')
    if backend != 'auto':
        return backend
    return 'native' if jax.default_backend() == 'cpu' and jax.device_count() == 1 else 'mjx'


def make(
    model: mujoco.MjModel, num_substeps: int, backend: str = 'auto', max_worlds: int = 4096
) -> Physics:
    """Builds the engine of a model.

    Args:
      model: may have any constraints and contacts. Its jacobian should be dense, because the sparse
        Cholesky factorisation of MuJoCo 4.0.0's C engine is wrong.
      num_substeps: timesteps in one step, all with the same controls.
      backend: a name in BACKENDS.
      max_worlds: the number of worlds for which 'warp' reserves contact buffers.

    Raises:
      ValueError: the backend is unknown or cannot run here, or the model has state that
        PhysicsState does not hold.
      ImportError: the backend is 'warp' and warp-lang is not installed.
    """
    backend = resolve(backend)
    _check_state(model)
    build = {'mjx': _make_mjx, 'native': _make_native, 'warp': _make_warp}[backend]
    step = build(model, num_substeps, max_worlds)

    def start(qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        act = jnp.zeros((model.na,)) if model.na else None
        return PhysicsState(qpos, qvel, act, jnp.zeros((model.nv,)))

    return Physics(backend, start, step)


def _check_state(model: mujoco.MjModel) -> None:
    """Raises ValueError where the model remembers more than PhysicsState does."""
    for name in ('HISTORY', 'PLUGIN', 'PLASTIC'):
        size = mujoco.mj_stateSize(model, int(getattr(mujoco.mjtState, f'mjSTATE_{name}')))
        if size:
            raise ValueError(
                'model: expected no state besides qpos, qvel, act and the warm start, found '
                f'{size} numbers of {name.lower()} (delays, plugins or plastic parts)'
            )


def _make_mjx(model: mujoco.MjModel, num_substeps: int, max_worlds: int):
    del max_worlds
    return _step_by_mjx(*physics.put(model), num_substeps)


def _make_warp(model: mujoco.MjModel, num_substeps: int, max_worlds: int):
    try:
        import warp  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError as error:
        raise ImportError("backend 'warp' needs: pip install warp-lang") from error
    static = physics.put(model)[1]._impl  # MJX-JAX has room for every possible contact
    num_contacts, num_rows = static.contact.dist.shape[0], static.efc_J.shape[0]
    template = mjx.make_data(
        model, impl='warp', naconmax=2 * num_contacts * max_worlds, njmax=2 * num_rows
    )
    return _step_by_mjx(mjx.put_model(model, impl='warp'), template, num_substeps)


def _step_by_mjx(device_model: mjx.Model, template: mjx.Data, num_substeps: int):
    """Builds the step of MJX in either of its implementations."""

    def step(state: PhysicsState, ctrl: jax.Array, overrides: physics.Overrides | None = None):
        world = device_model.tree_replace(dict(overrides or {}))

        def substep(_, state: PhysicsState) -> PhysicsState:
            data = template.replace(
                qpos=state.qpos,
                qvel=state.qvel,
                act=template.act if state.act is None else state.act,
                qacc_warmstart=state.warmstart,
                ctrl=ctrl,
            )
            data = mjx.step(world, data)
            act = None if state.act is None else data.act
            return PhysicsState(data.qpos, data.qvel, act, data.qacc_warmstart)

        with physics.tracing():
            return jax.lax.fori_loop(0, num_substeps, substep, state)

    return step


def _make_native(model: mujoco.MjModel, num_substeps: int, max_worlds: int):
    del max_worlds
    if jax.default_backend() != 'cpu':
        raise ValueError(f"backend 'native': expected JAX on a CPU, found {jax.default_backend()}")
    model = copy.copy(model)
    # By default the C engine puts a world that diverges back to qpos0. Here, as in MJX, the world
    # keeps its NaN, so that the caller can see it.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    batches: dict[tuple, mujoco_batch.Batch] = {}  # by number of worlds and names of overrides
    lock = threading.Lock()  # two compiled programs, or two devices, may call at the same time

    # A buffer callback reads the arrays in place. A `pure_callback` first copies them with JAX, and
    # the copy waits for threads that in turn wait for the callback, so that it can hang for ever.
    def run(_, out: PhysicsState, state: PhysicsState, ctrl, overrides) -> None:
        worlds = np.asarray(out.qpos).shape[:-1]  # () or the sizes of one or more vmaps
        num_worlds = math.prod(worlds)
        with lock:
            key = (num_worlds, *sorted(overrides))
            if key not in batches and num_worlds:
                batches[key] = mujoco_batch.Batch(model, num_worlds, _num_threads())
            if num_worlds:
                _run_batch(batches[key], num_substeps, worlds, out, state, ctrl, overrides)

    def step(state: PhysicsState, ctrl: jax.Array, overrides: physics.Overrides | None = None):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
        # Arguments that a vmap does not map arrive with an axis of length 1 in its place.
        call = buffer_callback.buffer_callback(run, shapes, vmap_method='expand_dims')
        return call(state, ctrl, dict(overrides or {}))

    return step


def _run_batch(
    batch: mujoco_batch.Batch,
    num_substeps: int,
    worlds: tuple[int, ...],
    out,
    state,
    ctrl,
    overrides,
) -> None:
    """Puts a state into a batch, steps it, and writes the new one to `out`."""

    def rows(array: np.ndarray) -> np.ndarray:  # a view with an axis for every vmap
        return array.reshape(worlds + array.shape[1:])

    changed = np.zeros(worlds, bool)
    for name, value in overrides.items():
        field, value = rows(batch.expand(name)), np.asarray(value)
        value = value.reshape(value.shape[: len(worlds)] + field.shape[len(worlds) :])
        changed |= (field != value).reshape(*worlds, -1).any(axis=-1)
        field[...] = value
    if changed.any():  # the engine keeps constants that depend on masses
        batch.set_const(changed.reshape(-1))
    for name, field in _FIELDS.items():
        value = getattr(state, name)
        if value is not None:
            rows(batch.bind(field))[...] = np.asarray(value)
    rows(batch.bind('ctrl'))[...] = np.asarray(ctrl)
    batch.step(nstep=num_substeps)
    for name, field in _FIELDS.items():
        value = getattr(out, name)
        if value is not None:
            np.asarray(value)[...] = rows(batch.bind(field))


def _num_threads() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
