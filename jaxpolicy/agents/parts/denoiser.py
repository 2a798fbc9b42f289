"""What the agents share that learn to turn noise into a chunk of actions: network and optimiser."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, types
from jaxpolicy.nets import embed, mlp, transformer, unet1d

NETWORKS = {
    'unet1d': lambda c: unet1d.UNet1D(c.dims, c.kernel_size, c.num_groups),
    'transformer': lambda c: transformer.Transformer(
        c.width, c.num_blocks, c.num_heads, c.conditioning, c.causal
    ),
    'mlp': lambda c: mlp.MLPDenoiser(c.width, c.num_blocks),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The fields that these agents have in common."""

    network: str = 'unet1d'  # 'unet1d', 'transformer' or 'mlp'
    dims: tuple[int, ...] = (256, 512, 1024)  # of the U-Net's levels
    kernel_size: int = 5  # of the U-Net
    num_groups: int = 8  # of the U-Net's GroupNorms
    width: int = 512  # of the transformer and the MLP
    num_blocks: int = 3  # of the transformer and the MLP
    num_heads: int = 4  # of the transformer
    conditioning: str = 'adaln'  # of the transformer: 'adaln' or 'cross'
    causal: bool = False  # the transformer's steps see only the past
    obs_horizon: int = 2  # To
    pred_horizon: int = 16  # Tp
    action_horizon: int = 8  # Ta, executed before the next plan
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6
    warmup_updates: int = 500
    decay_updates: int = 0  # of the cosine decay; the launcher fills it in
    max_grad_norm: float = 1.0
    ema_power: float = 0.75


def network(config: Config) -> Any:
    """A flax module: (x [B, Tp, A], k [B] or [B, n], condition [B, To, D]) -> [B, Tp, A].

    Raises:
      ValueError: an unknown network.
    """
    if config.network not in NETWORKS:
        raise ValueError(
            f'agent.network: expected one of {tuple(NETWORKS)}, found {config.network!r}'
        )
    return NETWORKS[config.network](config)


def init_params(config: Config, spec: types.Spec, key: jax.Array, num_levels: int = 0) -> Any:
    """Parameters of the network; `num_levels` levels a row, or 0 for k [B]."""
    chunk = jnp.zeros((1, config.pred_horizon, spec.action.shape[0]))
    condition = jnp.zeros((1, config.obs_horizon, embed.obs_dim(spec.obs)))
    k = jnp.zeros((1, num_levels) if num_levels else (1,))
    return network(config).init(key, chunk, k, condition)


def optimizer(config: Config) -> Any:
    """AdamW with warm-up and cosine decay, as the config says."""
    return optimizers.adamw_cosine(
        config.learning_rate,
        config.weight_decay,
        config.warmup_updates,
        config.decay_updates,
        config.max_grad_norm,
    )
