"""Meshes and shardings over the eight virtual devices of conftest."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxpolicy import sharding


def test_the_mesh_has_automatic_axes_over_the_first_devices():
    mesh = sharding.make_mesh()
    assert mesh.size == 8 and mesh.axis_names == ('env',)
    assert mesh.axis_types == (jax.sharding.AxisType.Auto,)
    assert list(sharding.make_mesh(2).devices) == jax.devices()[:2]


def test_too_many_devices_are_refused():
    with pytest.raises(ValueError, match='num_devices: expected at most the 8 devices.* found 9'):
        sharding.make_mesh(9)


def test_trees_are_cut_along_an_axis_or_repeated():
    mesh = sharding.make_mesh(4)
    tree = {'x': jnp.zeros((8, 3)), 'key': jax.random.split(jax.random.key(0), 8)}
    cut = jax.device_put(tree, sharding.shard_leading(mesh, tree))
    assert [s.data.shape for s in cut['x'].addressable_shards] == [(2, 3)] * 4
    assert cut['key'].sharding.spec == PartitionSpec('env')
    everywhere = jax.device_put(tree, sharding.replicate(mesh, tree))
    assert [s.data.shape for s in everywhere['x'].addressable_shards] == [(8, 3)] * 4
    second = sharding.shard_leading(mesh, jax.ShapeDtypeStruct((3, 8), jnp.float32), axis=1)
    assert second.spec == PartitionSpec(None, 'env')


def test_axes_that_do_not_divide_are_refused():
    mesh = sharding.make_mesh(4)
    with pytest.raises(ValueError, match=r'num_envs: expected a multiple of the 4 .*\[6, 2\]'):
        sharding.shard_leading(mesh, jnp.zeros((6, 2)))
    with pytest.raises(ValueError, match='along axis 1'):
        sharding.shard_leading(mesh, jnp.zeros(4), axis=1)


def test_process_ids_are_checked_before_anything_is_joined():
    with pytest.raises(ValueError, match='process_id: expected 0 to 1 .* found 2'):
        sharding.initialize('localhost:1', 2, 2)
