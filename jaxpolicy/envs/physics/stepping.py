# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""What every MJX task shares: stepping and kinematics."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that its optional parts are missing
    import mujoco
    from mujoco import mjx

from jaxpolicy.envs.physics import links

PyTree = Any
Overrides = Mapping[str, jax.Array]  # fields of the model that differ from world to world
Step = Callable[..., tuple[jax.Array, jax.Array]]


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """The setting in which all MJX code must be traced: the walk of `links`, and float32 products.

    On accelerators the default matrix product rounds its inputs (TF32 or bfloat16), which is too
    coarse for physics.
    """
    if jax.default_backend() == 'cpu':
        with links.walk():
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
