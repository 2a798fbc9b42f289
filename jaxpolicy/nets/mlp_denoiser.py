"""A multi-layer perceptron that denoises a chunk of actions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import embed, mlp


class MLPDenoiser(nn.Module):
    """Denoiser of chunks x [B, Tp, A] as one vector each; k and condition are as for the U-Net.

    It suits short, low-dimensional chunks on CPUs, where matrix products are fast and small
    convolutions are slow.
    """

    width: int = 512
    num_blocks: int = 3
    step_embed_dim: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, k: jax.Array, condition: jax.Array) -> jax.Array:
        batch, horizon, action_dim = x.shape
        step = embed.Levels(self.step_embed_dim, self.step_embed_dim)(k)
        inputs = jnp.concatenate(
            [x.reshape(batch, -1), step, condition.reshape(batch, -1)], axis=-1
        )
        net = mlp.ResidualMLP(
            self.width, self.num_blocks, horizon * action_dim, nn.initializers.zeros_init()
        )
        return net(inputs).reshape(x.shape)


def from_config(config: Any) -> nn.Module:
    """The network of an agent whose Config has the fields of `agents.parts.denoiser.Config`."""
    return MLPDenoiser(config.width, config.num_blocks)
