"""Devices and processes: where arrays live. Only this file builds meshes.

A mesh has one axis, 'env': environments are spread over all devices of all processes, and each
device has a copy of everything else. The shardings are given to `jax.jit`; loops and agents know
nothing of them, and XLA inserts the sums across devices.
"""

import math
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins several processes into one program; call it before anything asks JAX for a device.

    Args:
      coordinator: 'host:port' of process 0, the same in every process.
      num_processes: how many processes there are.
      process_id: which of them this one is, counted from 0.

    Raises:
      ValueError: `process_id` is not between 0 and `num_processes` - 1, or no port is named.
    """
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f'process_id: expected 0 to {num_processes - 1} with num_processes {num_processes}, '
            f'found {process_id}'
        )
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise ValueError(f"coordinator: expected 'host:port', found {coordinator!r}")
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')  # only CPUs use it
    jax.distributed.initialize(coordinator, num_processes, process_id)


def make_mesh(num_devices: int = 0) -> Mesh:
    """Builds a mesh with the axis 'env' over devices.

    Args:
      num_devices: how many devices to take, the first ones; 0: all devices of all processes.

    Raises:
      ValueError: there are fewer devices, or there are several processes and it is not all devices.
    """
    devices = jax.devices()
    num_devices = num_devices or len(devices)
    if num_devices > len(devices) or (jax.process_count() > 1 and num_devices < len(devices)):
        raise ValueError(
            f'num_devices: expected at most the {len(devices)} devices that there are (all of them '
            f'with several processes), found {num_devices}'
        )
    # JAX's default, explicit axes, raises an error where a rollout is shuffled into minibatches.
    return jax.make_mesh(
        (num_devices,), ('env',), axis_types=(AxisType.Auto,), devices=devices[:num_devices]
    )


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Shardings that put all of every leaf of `tree` on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)


def shard_leading(mesh: Mesh, tree: PyTree, axis: int = 0) -> PyTree:
    """Shardings that cut every leaf's axis number `axis` (0: the leading one) into equal parts.

    Raises:
      ValueError: a leaf lacks the axis, or its size is no multiple of the number of devices.
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
    """Whether to stop after this round; with several processes, all of them get the same answer.

    Args:
      received: whether this process was asked to stop. It is ignored with several processes, where
        JAX's own service takes SIGTERM, tells the others and names a step that all will reach.
      step: the number of the round, the same in all processes.
    """
    if jax.process_count() == 1:
        return received
    return multihost_utils.reached_preemption_sync_point(step)


def num_bytes(tree: Any) -> int:
    """The bytes of all arrays, or shapes of arrays, in a tree; keys count as their data."""

    def one(x: Any) -> int:
        item = 8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize
        return math.prod(x.shape) * item

    return sum(map(one, jax.tree.leaves(tree)))


def memory(device: Any, num_devices: int) -> int:
    """The bytes that so many devices like this one have together; 0 where nobody says.

    CPU devices share the memory of the host.
    """
    if device.platform != 'cpu':
        return num_devices * (device.memory_stats() or {}).get('bytes_limit', 0)
    if 'SC_PHYS_PAGES' not in os.sysconf_names:
        return 0
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
