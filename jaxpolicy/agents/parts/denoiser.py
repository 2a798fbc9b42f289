"""What agents that turn noise into a chunk of actions have in common: network and optimiser."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, ranges, registry, train_state, types
from jaxpolicy.diffusion import process, samplers
from jaxpolicy.nets import encoders

# The networks that do not use a field; those of other people may use all of them. The fields of
# the U-Net, which is the default, may stay as a recipe has them where another network is chosen.
_UNET = ranges.Idle('network', ('unet1d',))
_NO_HEADS = ranges.Idle('network', ('unet1d', 'mlp'))


@dataclasses.dataclass(frozen=True)
class Config:
    """The fields that the configs of these agents have in common."""

    network: str = 'unet1d'  # or 'transformer', 'mlp', or a dotted name (see `registry`)
    dims: ranges.Counts = (256, 512, 1024)  # channels at each level of the U-Net
    kernel_size: ranges.Few = 5  # of the U-Net's convolutions
    num_groups: ranges.Size = 8  # of the U-Net's GroupNorms
    width: Annotated[ranges.Size, _UNET] = 512  # of the transformer and the MLP
    num_blocks: Annotated[ranges.Few, _UNET] = 3  # of the transformer and the MLP
    num_heads: Annotated[ranges.Size, _NO_HEADS] = 4  # of the transformer
    conditioning: Annotated[Literal['adaln', 'cross'], _NO_HEADS] = 'adaln'  # of the transformer
    causal: Annotated[bool, _NO_HEADS] = False  # the transformer's steps see only the past
    obs_horizon: ranges.Size = 2  # To
    pred_horizon: ranges.Size = 16  # Tp
    action_horizon: ranges.Size = 8  # Ta, executed before the next plan
    learning_rate: ranges.Positive = 1e-4
    weight_decay: ranges.NonNegative = 1e-6
    warmup_updates: ranges.CountOrZero = 500
    decay_updates: ranges.CountOrZero = 0  # of the cosine; 0: an offline run fills it in
    max_grad_norm: ranges.NonNegative = 1.0  # 0: no limit
    ema_power: ranges.NonNegative = 0.75
    act_weights: Literal['ema', 'last'] = 'ema'  # which weights act: averaged, or as they are


def check_actions(spec: types.Spec) -> None:
    """Raises a ValueError for discrete actions: noise turns into numbers, not into choices."""
    types.check_actions(spec, instead="'bc' with agent.head=categorical")


def network(config: Config) -> Any:
    """The flax module (x [B, Tp, A], k [B] or [B, n], condition [B, To, D]) -> [B, Tp, A].

    Raises:
      ValueError: an unknown network.
    """
    make = registry.resolve('networks', config.network, 'agent.network')
    return make(config)


class Denoiser(NamedTuple):
    """The network that the config names, given the last To observations."""

    net: Any  # (x [B, Tp, A], k [B] or [B, n], condition [B, To, D]) -> [B, Tp, A]
    config: Config
    spec: types.Spec

    def init(self, key: jax.Array, num_levels: int = 0) -> Any:
        """New parameters, for levels k [B, num_levels] or, if `num_levels` is 0, k [B]."""
        chunk = jnp.zeros((1, self.config.pred_horizon, self.spec.action.shape[0]))
        condition = jnp.zeros((1, self.config.obs_horizon, encoders.size(self.spec.obs)))
        k = jnp.zeros((1, num_levels) if num_levels else (1,))
        return self.net.init(key, chunk, k, condition)

    def see(self, obs: types.PyTree) -> jax.Array:
        """Turns a history (leaves [B, To, ...]) into the network's condition [B, To, D]."""
        return encoders.encode(obs, self.spec.obs)

    def acting(self, state: train_state.TrainState, name: str = 'denoiser') -> Any:
        """The parameters that act, of the network that the state calls `name`."""
        return train_state.weights(state, name, self.config.act_weights)

    def apply(self, params: Any, x: jax.Array, k: jax.Array, condition: jax.Array) -> jax.Array:
        """The network's output [B, Tp, A] for noisy chunks x [B, Tp, A]."""
        return self.net.apply(params, x, k, condition)


class Sampling(NamedTuple):
    """How an agent samples chunks; `parts.last_chunk` changes its start and its predictions.

    predictor(state, history) -> Predict, the estimate of x_0 with the weights that act, for
        histories with leaves [B, To, ...].
    shape: (Tp, A), that of one chunk.
    """

    predictor: Callable[[Any, types.PyTree], samplers.Predict]
    sampler: samplers.Sampler
    grid: process.Level
    shape: tuple[int, int]


def make(config: Config, spec: types.Spec) -> Denoiser:
    """Builds the denoiser that the config names.

    Raises:
      ValueError: an unknown network.
    """
    return Denoiser(network(config), config, spec)


def optimizer(config: Config) -> Any:
    """AdamW with warm-up and cosine decay, as the config says."""
    return optimizers.adamw_cosine(
        config.learning_rate,
        config.weight_decay,
        config.warmup_updates,
        config.decay_updates,
        config.max_grad_norm,
    )
