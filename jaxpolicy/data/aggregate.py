"""The labelled chunks that an interactive learner collects, on the device, and batches of them."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.data import windows
from jaxpolicy.types import Chunk, Key, PyTree


class Labels(struct.PyTreeNode):
    """Room for C chunks; the first `count` places hold labels, the others are empty."""

    chunks: Chunk  # leaves [C, ...]
    count: jax.Array  # [] int32


def make(capacity: int, template: Chunk) -> Labels:
    """Makes empty labels with room for `capacity` chunks.

    Args:
      template: a Chunk, leaves [B, ...], whose shapes and dtypes the labels will have.
    """
    chunks = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), template)
    return Labels(chunks, jnp.zeros((), jnp.int32))


def add(labels: Labels, chunks: Chunk, valid: jax.Array) -> Labels:
    """Appends the valid ones of Q chunks.

    Args:
      labels: must have room for all Q chunks, the invalid ones included.
      chunks: leaves [Q, ...], the valid chunks first.
      valid: [Q] bool: True for the chunks to keep, then False for the rest.
    """

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), labels.count, 0)

    count = labels.count + jnp.sum(valid, dtype=jnp.int32)
    return Labels(jax.tree.map(write, labels.chunks, chunks), count)


def sample(
    demos: windows.Windows, labels: Labels, key: Key, batch_size: int, share: float
) -> Chunk:
    """A batch [B] of demonstrations and labels, each drawn uniformly, with replacement.

    Args:
      share: the expected share of labels in the batch, once there are labels. With 0 it is their
        share of all the data: labels / (demonstrations + labels).
    """
    num_demos = windows.num_windows(demos)
    which_key, demo_key, label_key = jax.random.split(key, 3)
    natural = labels.count / (num_demos + labels.count)
    chance = jnp.where(labels.count > 0, share if share else natural, 0.0)
    labelled = jax.random.bernoulli(which_key, chance, (batch_size,))
    index = jax.random.randint(demo_key, (batch_size,), 0, num_demos)
    place = jax.random.randint(label_key, (batch_size,), 0, jnp.maximum(labels.count, 1))

    def choose(a: PyTree, b: PyTree) -> PyTree:
        return jnp.where(labelled.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    ours = jax.tree.map(lambda x: x[place], labels.chunks)
    return jax.tree.map(choose, ours, windows.gather(demos, index))
