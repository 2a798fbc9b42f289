"""Output heads that carry parameters of their own."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import mlp


class GaussianActor(nn.Module):
    """[..., D] -> mean and log_std [..., A]; the latter does not depend on the input."""

    hidden: Sequence[int]
    action_dim: int
    activation: str
    init_std: float

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        net = mlp.MLP(self.hidden, self.action_dim, self.activation, output_scale=0.01)
        init = nn.initializers.constant(math.log(self.init_std))
        log_std = self.param('log_std', init, (self.action_dim,))
        mean = net(x)
        return mean, jnp.broadcast_to(log_std, mean.shape)
