"""Labelled chunks that accumulate while learning, on the device, beside the demonstrations."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.data import windows
from jaxpolicy.types import Chunk, Key, PyTree


class Labels(struct.PyTreeNode):
    """C places for chunks, of which the first `count` are taken."""

    chunks: Chunk  # leaves [C, ...]
    count: jax.Array  # [] int32


def make(capacity: int, template: Chunk) -> Labels:
    """No labels yet, and room for `capacity` of them; template: a Chunk of shapes [B, ...]."""
    chunks = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), template)
    return Labels(chunks, jnp.zeros((), jnp.int32))


def add(labels: Labels, chunks: Chunk, valid: jax.Array) -> Labels:
    """Appends those of Q chunks that are valid, which come first: [Q] True, ..., False, ...

    There must be room for all Q, valid or not.
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
      share: expected share of labels in the batch, where there are any; 0: what they are of all.
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
