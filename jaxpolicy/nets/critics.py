"""Critics: networks that estimate what an action or a state is worth."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import mlp


class Critic(nn.Module):
    """[..., D] -> [..., output_dim]: dense layers, with layer normalisation if asked to."""

    hidden: Sequence[int]
    output_dim: int
    activation: str
    layer_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden:
            x = nn.Dense(size)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = mlp.ACTIVATIONS[self.activation](x)
        return nn.Dense(self.output_dim)(x)


class Critics(nn.Module):
    """E critics with weights of their own: obs [..., D], action [..., A] -> [E, ..., output_dim].

    Layer normalisation bounds the values that they give to actions outside the data: Ball et al.,
    2023 (arXiv:2302.02948), section 4.2.
    """

    num_critics: int
    hidden: Sequence[int]
    output_dim: int = 1
    activation: str = 'relu'
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        each = nn.vmap(
            Critic,
            variable_axes={'params': 0},
            split_rngs={'params': True},
            in_axes=None,  # pyright: ignore[reportArgumentType]
            out_axes=0,
            axis_size=self.num_critics,
        )
        net = each(self.hidden, self.output_dim, self.activation, self.layer_norm)
        return net(jnp.concatenate([obs, action], axis=-1))


class ActionValues(nn.Module):
    """[..., D] -> [..., M]: the value of each of M actions.

    With `duelling`, that is the state's value plus how much better the action is than the mean of
    all actions: Wang et al., 2016 (arXiv:1511.06581), equation 9.
    """

    hidden: Sequence[int]
    num_actions: int
    activation: str = 'relu'
    duelling: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden:
            x = mlp.ACTIVATIONS[self.activation](nn.Dense(size)(x))
        advantage = nn.Dense(self.num_actions)(x)
        if not self.duelling:
            return advantage
        return nn.Dense(1)(x) + advantage - jnp.mean(advantage, axis=-1, keepdims=True)
