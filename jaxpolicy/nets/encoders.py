"""From an observation to features: only this file knows what observations are made of.

A `view` is the specs of the entries of one observation that a network sees. Today every entry is an
array of numbers, and the features are those numbers, joined into one vector in the order of the
tree. Encoders of images and of text belong here, with parameters of their own, behind `Encoded`.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any


def view(spec_obs: PyTree, field: str, names: tuple[str, ...]) -> PyTree:
    """The specs of the named entries of a dict observation, or of all of it if `names` is ().

    Raises:
      ValueError: there are no such entries; the message names `field`, the config's field for them.
    """
    if not names:
        return spec_obs
    if not isinstance(spec_obs, dict):
        raise ValueError(f'agent.{field}: expected (), as observations are no dict, found {names}')
    if unknown := [name for name in names if name not in spec_obs]:
        raise ValueError(f'agent.{field}: expected keys of {sorted(spec_obs)}, found {unknown}')
    return {name: spec_obs[name] for name in names}


def size(view: PyTree) -> int:
    """D, the number of features of one observation."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(view))


def encode(obs: PyTree, view: PyTree) -> jax.Array:
    """The features [..., D] of observations whose leaves are [..., *shape].

    The leading axes are free: [B] for single observations, [B, To] for histories of them.
    """
    if isinstance(view, dict):
        obs = {name: obs[name] for name in view}
    leaves = [
        leaf.reshape(leaf.shape[: leaf.ndim - len(s.shape)] + (-1,))
        for leaf, s in zip(jax.tree.leaves(obs), jax.tree.leaves(view), strict=True)
    ]
    return jnp.concatenate(leaves, axis=-1)


def encode_history(obs: PyTree, view: PyTree) -> jax.Array:
    """The features of histories (leaves [B, To, *shape]) as one vector a row, [B, To * D]."""
    features = encode(obs, view)
    return features.reshape(features.shape[0], -1)


class Encoded(NamedTuple):
    """A network that takes observations, made from one that takes features.

    net: takes features first, and then whatever else it needs, as a critic needs actions.
    view: the specs of what it sees of one observation.
    num_obs: To for a network that sees histories, each as one vector; 0 for a network that sees
        single observations, with any leading axes.
    """

    net: nn.Module
    view: PyTree
    num_obs: int = 0

    def init(self, key: jax.Array, *others: jax.ShapeDtypeStruct) -> Any:
        """The parameters; `others` are the specs, without a batch, of what else the net takes."""
        features = jnp.zeros((1, max(self.num_obs, 1) * size(self.view)))
        return self.net.init(key, features, *(jnp.zeros((1, *s.shape), s.dtype) for s in others))

    def apply(self, params: Any, obs: PyTree, *others: jax.Array) -> Any:
        """The network's output for observations, or for histories [B, To, ...] of them."""
        features = encode_history if self.num_obs else encode
        return self.net.apply(params, features(obs, self.view), *others)
