# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""What every MJX task shares: stepping, kinematics, and a cure for slow kinematics on CPU."""

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that its optional parts are missing
    import mujoco
    from mujoco import mjx

try:
    from mujoco.mjx._src import scan
except ImportError:  # a newer MJX may move its private modules; see `chain_barrier`
    scan = None

PyTree = Any
Overrides = Mapping[str, jax.Array]  # fields of the model that differ from world to world
Step = Callable[..., tuple[jax.Array, jax.Array]]

# The parameters of `scan.body_tree` that the barrier below was written and measured for.
_BODY_TREE = ['m', 'f', 'in_types', 'out_types', 'args', 'reverse']


def barrier_applies() -> bool:
    """Whether the installed MJX still has the function that `chain_barrier` wraps."""
    body_tree = None if scan is None else vars(scan).get('body_tree')
    return callable(body_tree) and list(inspect.signature(body_tree).parameters) == _BODY_TREE


@contextlib.contextmanager
def chain_barrier() -> Iterator[None]:
    """Traces MJX so that XLA's CPU backend computes each body's pose once.

    It works around this problem: `scan.body_tree` walks the bodies from the base to the tip, and
    each body needs its parent's result. XLA on CPU fuses through the whole walk. So every output of
    every body recomputes the chain above it, which makes an arm about 3 times (jax 0.12) to 2,000
    times (jax 0.10) slower. An optimisation barrier on what a parent hands to its children stops
    the fusion and leaves the values alone. The workaround covers only what is traced inside the
    context and does nothing on accelerators. If MJX's private function has changed, it warns and
    does nothing.
    """
    if jax.default_backend() != 'cpu':
        yield
        return
    if scan is None or not barrier_applies():
        warnings.warn(
            'mujoco.mjx._src.scan.body_tree has changed: MJX runs without the kinematic-chain '
            'barrier and may be very slow on CPU',
            stacklevel=3,
        )
        yield
        return
    original = scan.body_tree

    def body_tree(m, f, in_types, out_types, *args, reverse=False):
        def fenced(carry, *xs):
            return f(None if carry is None else jax.lax.optimization_barrier(carry), *xs)

        return original(m, fenced, in_types, out_types, *args, reverse=reverse)

    scan.body_tree = body_tree
    try:
        yield
    finally:
        scan.body_tree = original


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """The setting in which all MJX code must be traced: the barrier, and float32 products.

    On accelerators the default matrix product rounds its inputs (TF32 or bfloat16), which is too
    coarse for physics.
    """
    if jax.default_backend() == 'cpu':
        with chain_barrier():
            yield
    else:
        with jax.default_matmul_precision('highest'):
            yield


def put(model: mujoco.MjModel) -> tuple[mjx.Model, mjx.Data]:
    """Puts the model and blank data into MJX, as arrays that are committed to no device.

    MJX itself commits them to one device, and constants that are committed to one device cannot be
    combined with data that is sharded over several.
    """

    device = jax.local_devices()[0]  # MJX's default may belong to another process
    return release((mjx.put_model(model, device=device), mjx.make_data(model, device=device)))


def release(tree: PyTree) -> PyTree:
    """Copies the arrays of a tree so that they are committed to no device."""

    def one(leaf):
        return jnp.asarray(np.asarray(leaf)) if isinstance(leaf, jax.Array) else leaf

    return jax.tree.map(one, tree)


def make_step(model: mujoco.MjModel, num_substeps: int) -> Step:
    """Builds step(qpos [nq], qvel [nv], ctrl [nu], overrides={}) -> (qpos, qvel).

    It returns the state `num_substeps` timesteps later. Only positions and velocities go from one
    timestep to the next, so that XLA drops whatever else MJX computes. They are the full state of a
    model without activations and warm starts. `overrides` are fields of the model by name, each in
    its whole shape.

    Raises:
      ValueError: the model has activations or constraints, whose state would be lost.
    """
    disabled = mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.na or not model.opt.disableflags & disabled:
        raise ValueError(
            'make_step needs a model without activations and with <flag constraint="disable"/>, '
            f'found na={model.na} and disableflags={model.opt.disableflags}'
        )
    device_model, template = put(model)

    @jax.jit  # traced once, however often a program steps
    def step(qpos, qvel, ctrl, overrides: Overrides | None = None):
        world = device_model.tree_replace(dict(overrides or {}))

        def substep(_, state: tuple[jax.Array, jax.Array]):
            data = template.replace(qpos=state[0], qvel=state[1], ctrl=ctrl)
            data = mjx.step(world, data)
            return data.qpos, data.qvel

        with tracing():
            return jax.lax.fori_loop(0, num_substeps, substep, (qpos, qvel))

    return step


def make_kinematics(model: mujoco.MjModel) -> Callable[..., mjx.Data]:
    """Builds kinematics(qpos [nq], overrides={}) -> Data, which has the poses for `qpos`."""
    device_model, template = put(model)

    @jax.jit
    def kinematics(qpos: jax.Array, overrides: Overrides | None = None) -> mjx.Data:
        with tracing():
            world: Any = device_model.tree_replace(dict(overrides or {}))
            return mjx.kinematics(world, template.replace(qpos=qpos))

    return kinematics
