"""Devices and processes: where arrays live. Nothing else builds a mesh.

One axis, 'env': environments are spread over all devices of all processes, everything else is on
each of them. The shardings go to `jax.jit` at its boundary; loops and agents know nothing of them,
and XLA puts the sums across devices where they belong.
"""

from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins several processes into one program; before anything else asks JAX for a device.

    Args:
      coordinator: 'host:port' of process 0, the same in every process.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      ValueError: an id that is not one of the processes'.
    """
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f'process_id: expected 0 to {num_processes - 1} with num_processes {num_processes}, '
            f'found {process_id}'
        )
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')  # only CPUs look at it
    jax.distributed.initialize(coordinator, num_processes, process_id)


def make_mesh(num_devices: int = 0) -> Mesh:
    """A mesh with the axis 'env' over the first `num_devices` devices (0: all of all processes).

    Raises:
      ValueError: there are fewer devices, or several processes and not all devices.
    """
    devices = jax.devices()
    num_devices = num_devices or len(devices)
    if num_devices > len(devices) or (jax.process_count() > 1 and num_devices < len(devices)):
        raise ValueError(
            f'num_devices: expected at most the {len(devices)} devices that there are (all of them '
            f'with several processes), found {num_devices}'
        )
    # The default, explicit axes, refuses the minibatch shuffle.
    return jax.make_mesh(
        (num_devices,), ('env',), axis_types=(AxisType.Auto,), devices=devices[:num_devices]
    )


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Shardings that put all of every leaf of `tree` on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)


def shard_leading(mesh: Mesh, tree: PyTree, axis: int = 0) -> PyTree:
    """Shardings that cut every leaf's axis number `axis` (0: the leading one) into equal parts.

    Raises:
      ValueError: an axis does not divide by the number of devices.
    """

    def one(leaf):
        if leaf.ndim <= axis or leaf.shape[axis] % mesh.size:
            raise ValueError(
                f'num_envs: expected a multiple of the {mesh.size} devices, found an array of '
                f'shape {list(leaf.shape)} to cut along axis {axis}'
            )
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'env'))

    return jax.tree.map(one, tree)


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def stop_agreed(received: bool, step: int) -> bool:
    """Whether to stop after this step; with several processes, the same answer in all of them.

    Args:
      received: whether this process was asked to stop. With several processes JAX's own service
        takes SIGTERM, tells the others and names a step that all will reach.
      step: the number of the step, the same in all processes.
    """
    if jax.process_count() == 1:
        return received
    return multihost_utils.reached_preemption_sync_point(step)
