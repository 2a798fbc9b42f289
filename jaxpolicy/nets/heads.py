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


class TanhGaussianActor(nn.Module):
    """[..., D] -> mean and log_std [..., A] of the Gaussian in a tanh; both depend on the input.

    A tanh keeps log_std in its range; unlike clipping, it always leaves some gradient.
    """

    hidden: Sequence[int]
    action_dim: int
    activation: str
    log_std_range: tuple[float, float] = (-5.0, 2.0)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        both = mlp.MLP(self.hidden, 2 * self.action_dim, self.activation, output_scale=0.01)(x)
        mean, raw = jnp.split(both, 2, axis=-1)
        low, high = self.log_std_range
        return mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0)


class TanhActor(nn.Module):
    """[..., D] -> action [..., A] in [-1, 1]."""

    hidden: Sequence[int]
    action_dim: int
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        net = mlp.MLP(self.hidden, self.action_dim, self.activation, output_scale=0.01)
        return jnp.tanh(net(x))
