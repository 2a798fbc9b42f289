"""Diffusion Policy: denoise a chunk of actions, given the last observations.

Training (Ho et al., 2020): draw k ~ U{0..K-1} and eps ~ N(0, I), and minimise

    || target(x_0, eps, k) - f(sqrt(alpha_bar_k) x_0 + sqrt(1 - alpha_bar_k) eps, k, o) ||^2

with x_0 the chunk [Tp, A] and target eps, x_0 or v. Acting runs a sampler from noise with the EMA
weights. Known deviations from the reference code: padded steps do not count in the loss; gradients
are clipped by their global norm; DDIM visits evenly spaced levels from K - 1 to 0.

Source: Chi et al., 2023 (arXiv:2303.04137).
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.agents import optimizers
from jaxpolicy.diffusion import process, samplers, schedules
from jaxpolicy.nets import embed, mlp, unet1d
from jaxpolicy.ops import losses

NETWORKS = ('unet1d', 'mlp')
SAMPLERS = ('ddpm', 'ddim')


@dataclasses.dataclass(frozen=True)
class Config:
    network: str = 'unet1d'  # 'unet1d' or 'mlp'
    dims: tuple[int, ...] = (256, 512, 1024)  # of the U-Net's levels
    kernel_size: int = 5  # of the U-Net
    num_groups: int = 8  # of the U-Net's GroupNorms
    width: int = 512  # of the MLP
    num_blocks: int = 3  # of the MLP
    target: str = 'eps'  # what the network predicts: 'eps', 'x0' or 'v'
    schedule: str = 'squared_cosine'  # or 'linear'
    num_train_steps: int = 100  # K
    sampler: str = 'ddpm'  # 'ddpm' visits all K levels, 'ddim' num_sample_steps of them
    num_sample_steps: int = 10  # of DDIM
    clip: float = 1.0  # of x_0 while sampling, in normalised actions
    obs_horizon: int = 2  # To
    pred_horizon: int = 16  # Tp
    action_horizon: int = 8  # Ta, executed before the next plan
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6
    warmup_steps: int = 500
    total_steps: int = 0  # of the cosine decay; the launcher fills it in
    max_grad_norm: float = 1.0
    ema_power: float = 0.75


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent.

    Raises:
      ValueError: an unknown network, target, schedule or sampler, or too many sampling steps.
    """
    _validate(config)
    action_dim = spec.action.shape[0]
    alpha_bar = schedules.SCHEDULES[config.schedule](config.num_train_steps)
    net = _network(config)
    txs = {'denoiser': _optimizer(config)}

    def init(key):
        chunk = jnp.zeros((1, config.pred_horizon, action_dim))
        condition = jnp.zeros((1, config.obs_horizon * embed.obs_dim(spec.obs)))
        params = {'denoiser': net.init(key, chunk, jnp.zeros((1,), jnp.int32), condition)}
        return train_state.create(params, txs, target_params=params)

    def denoise(params, x_k, k, condition) -> Any:
        return net.apply(params, x_k, k, condition)

    def loss_fn(params, batch, key):
        k_key, eps_key = jax.random.split(key)
        k = jax.random.randint(k_key, batch.action.shape[:1], 0, config.num_train_steps)
        eps = jax.random.normal(eps_key, batch.action.shape)
        level = jnp.asarray(alpha_bar)[k][:, None, None]  # [B, 1, 1]
        x_k = process.add_noise(batch.action, eps, level)
        output = denoise(params, x_k, k, embed.flatten_history(batch.obs, spec.obs))
        target = process.make_target(config.target, batch.action, eps, level)
        return losses.chunk_mse(output, target, batch.mask)

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['denoiser'], batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'denoiser': grads}, config.ema_power)
        return state, metrics

    def act(state, obs, key, deterministic=False):
        del deterministic  # a sample is the policy
        params = state.target_params['denoiser']
        condition = embed.flatten_history(obs, spec.obs)

        def predict(x_k, k):
            output = denoise(params, x_k, jnp.full(x_k.shape[:1], k), condition)
            x0 = process.to_x0(config.target, output, x_k, jnp.asarray(alpha_bar)[k])
            return jnp.clip(x0, -config.clip, config.clip)

        noise_key, sampler_key = jax.random.split(key)
        shape = (condition.shape[0], config.pred_horizon, action_dim)
        noise = jax.random.normal(noise_key, shape)
        if config.sampler == 'ddpm':
            return samplers.ddpm(predict, noise, sampler_key, alpha_bar), {}
        return samplers.ddim(predict, noise, alpha_bar, config.num_sample_steps), {}

    return types.Agent(init, update, act)


def _network(config: Config):
    if config.network == 'mlp':
        return mlp.MLPDenoiser(config.width, config.num_blocks)
    return unet1d.UNet1D(config.dims, config.kernel_size, config.num_groups)


def _optimizer(config: Config):
    return optimizers.adamw_cosine(
        config.learning_rate,
        config.weight_decay,
        config.warmup_steps,
        config.total_steps,
        config.max_grad_norm,
    )


def _validate(config: Config) -> None:
    for field, names in (
        ('network', NETWORKS),
        ('target', process.TARGETS),
        ('schedule', tuple(schedules.SCHEDULES)),
        ('sampler', SAMPLERS),
    ):
        if getattr(config, field) not in names:
            raise ValueError(
                f'agent.{field}: expected one of {names}, found {getattr(config, field)!r}'
            )
    if config.sampler == 'ddim':
        samplers.timesteps(config.num_train_steps, config.num_sample_steps)
