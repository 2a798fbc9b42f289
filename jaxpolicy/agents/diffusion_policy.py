"""Diffusion Policy: denoise a chunk of actions, given the last observations.

To train, it draws a noise level k and eps ~ N(0, I), and minimises

    || target(x_0, eps) - f(x, k, o) ||^2,    x = signal x_0 + noise eps,

where x_0 is the chunk [Tp, A] and o the observations. The objective decides which levels are drawn
and what the target is: DDPM's eps, x_0 or v, EDM, or a flow's velocity (`diffusion.objectives`).
To act, it runs any sampler (`diffusion.samplers`) from noise, with the EMA weights.

`parts.last_chunk` turns this agent into one that begins each plan from its last chunk.

Known deviations from the reference code: padded steps do not count in the loss; gradients are
clipped by their global norm; DDIM visits evenly spaced levels from K - 1 to 0.

Source: Chi et al., 2023 (arXiv:2303.04137).
"""

import dataclasses
from typing import Annotated, Literal

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, registry, train_state, types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives, process, samplers
from jaxpolicy.ops import losses

SURPRISE_DRAWS = 8  # draws of level and noise that the surprise at a chunk is averaged over
LEARNS_FROM = 'chunks'  # of demonstrations
ACTING = (
    *('sampler', 'num_sample_steps', 'eta', 'clip', 'guidance', 'act_dtype', 'act_weights'),
    'action_horizon',
)


_NO_LEVELS = ranges.Idle('objective', ('edm', 'flow'))


@dataclasses.dataclass(frozen=True)
class Config(chunks.Config):
    objective: Literal['eps', 'x0', 'v', 'edm', 'flow'] = 'eps'
    schedule: Annotated[Literal['squared_cosine', 'linear'], _NO_LEVELS] = 'squared_cosine'
    num_train_steps: ranges.Size = 100  # K, the number of noise levels for eps, x0 and v
    sampler: str = 'ddpm'  # a name of `diffusion.samplers`, or the dotted name of a `Sampler`
    num_sample_steps: ranges.Size = 100  # intervals of the sampler's grid; at most K
    eta: ranges.NonNegative = 0.0  # of DDIM: 0 is deterministic, 1 is DDPM
    clip: ranges.Positive = 1.0  # limit of x_0 and of samples, in normalised actions
    condition_dropout: ranges.Share = 0.0  # share of samples that train without observations
    guidance: float = 1.0  # classifier-free; 1: none; other values need condition_dropout
    act_dtype: Literal['float32', 'bfloat16'] = 'float32'  # of the network while sampling


def make(config: Config, spec: types.Spec) -> types.ScoringAgent:
    """Builds the agent; its batches are `Chunk`s.

    Raises:
      ValueError: an unknown network, objective, schedule or sampler, discrete actions, or numbers
        that do not fit each other.
    """
    _validate(config, spec)
    net, objective, how = chunks.make(config, spec), objective_of(config), sampling(config, spec)
    txs = {'denoiser': chunks.optimizer(config)}

    def init(key):
        params = {'denoiser': net.init(key)}
        return train_state.create(params, txs, target_params=params)

    def loss_fn(params, batch, key):
        level_key, eps_key, drop_key = jax.random.split(key, 3)
        condition = net.see(batch.obs)
        if config.condition_dropout:
            rows = (len(condition), 1, 1)
            kept = jax.random.bernoulli(drop_key, 1.0 - config.condition_dropout, rows)
            condition = condition * kept
        keys = (level_key, eps_key)
        output, target = denoise(net, objective, params, batch.action, condition, keys)
        return losses.chunk_mse(output, target, batch.mask)

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, *how.shape))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['denoiser'], batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'denoiser': grads}, config.ema_power)
        return state, metrics

    def policy(state, deterministic=False):
        del deterministic  # both kinds of policy draw a sample

        def act(obs, key):
            predict = how.predictor(state, obs)
            noise_key, sampler_key = jax.random.split(key)
            rows = len(jax.tree.leaves(obs)[0])
            x = process.start(jax.random.normal(noise_key, (rows, *how.shape)), how.grid)
            return samplers.sample(how.sampler, predict, x, how.grid, sampler_key), {}

        return types.memoryless(act)

    def surprise(state, chunk, key):
        condition = net.see(chunk.obs)
        params = state.target_params['denoiser']
        return denoising_error(net, objective, params, chunk, condition, key)

    return types.ScoringAgent(init, update, policy, surprise)


def sampling(config: Config, spec: types.Spec) -> chunks.Sampling:
    """How the agent of this config samples its chunks, with the EMA weights.

    Raises:
      ValueError: the sampler cannot use a grid of `num_sample_steps` intervals.
    """
    net, objective = chunks.make(config, spec), objective_of(config)
    grid, sampler = objective.grid(config.num_sample_steps), sampler_of(config)
    sampler.plan(grid)  # raises a ValueError if the sampler cannot use the grid

    def predictor(state, history):
        condition, params = net.see(history), net.acting(state)
        predict = denoiser(config, net, objective, params, condition)
        if config.guidance != 1.0:
            nothing = jnp.zeros_like(condition)
            without = denoiser(config, net, objective, params, nothing)
            predict = samplers.guided(predict, without, config.guidance)
        return samplers.clipped(predict, config.clip)

    sampler = samplers.limited(sampler, config.clip)
    return chunks.Sampling(predictor, sampler, grid, (config.pred_horizon, *spec.action.shape))


def objective_of(config: Config) -> objectives.Objective:
    """The objective that the config names; raises a ValueError for an unknown name."""
    return objectives.make(config.objective, config.schedule, config.num_train_steps)


def denoise(net, objective, params, action, condition, keys) -> tuple[jax.Array, jax.Array]:
    """The network's output for chunks that are noised here, and its target, [B, Tp, A] each."""
    level_key, eps_key = keys
    level = process.each(objective.draw(level_key, len(action)), action)
    eps = jax.random.normal(eps_key, action.shape)
    x = process.add_noise(action, eps, level)
    output = net.apply(params, x * objective.scale(level), level.k.reshape(-1), condition)
    return output, objective.target(action, eps, level)


def denoising_error(net, objective, params, chunk, condition, key) -> jax.Array:
    """The loss of each chunk, [B], averaged over `SURPRISE_DRAWS` draws of level and noise.

    Source: Lee et al., 2024 (Diff-DAgger, arXiv:2410.14868), equation 4.
    """
    action, condition, mask = (
        jnp.repeat(x, SURPRISE_DRAWS, axis=0) for x in (chunk.action, condition, chunk.mask)
    )
    keys = jax.random.split(key)
    output, target = denoise(net, objective, params, action, condition, (keys[0], keys[1]))
    error = jnp.mean((output - target) ** 2, axis=-1) * mask
    each = jnp.sum(error, axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return jnp.mean(each.reshape(-1, SURPRISE_DRAWS), axis=-1)


def denoiser(config: Config, net, objective, params, condition) -> samplers.Predict:
    """The network with these weights as an estimate of x_0 from x at a level."""
    params, condition = jax.tree.map(lambda a: a.astype(config.act_dtype), (params, condition))

    def predict(x, level):
        k = jnp.broadcast_to(level.k, x.shape[:1])
        scaled = (x * objective.scale(level)).astype(config.act_dtype)
        output = net.apply(params, scaled, k, condition).astype(x.dtype)
        return objective.to_x0(output, x, level)

    return predict


def sampler_of(config: Config) -> samplers.Sampler:
    """The sampler that the config names; raises a ValueError for an unknown name."""
    sampler = registry.resolve('samplers', config.sampler, 'agent.sampler')
    return samplers.make_ddim(config.eta) if config.sampler == 'ddim' else sampler


def num_evaluations(config: Config) -> int:
    """How often the network is called for one plan; guidance calls it twice for a prediction."""
    each = 2 if config.guidance != 1.0 else 1
    return each * sampler_of(config).num_evaluations(config.num_sample_steps)


def _validate(config: Config, spec: types.Spec) -> None:
    chunks.check_actions(spec)
    if not 0.0 <= config.condition_dropout < 1.0:
        raise ValueError(
            f'agent.condition_dropout: expected 0 to below 1, found {config.condition_dropout}'
        )
    if config.guidance != 1.0 and not config.condition_dropout:
        raise ValueError(
            f'agent.guidance: expected 1.0 without condition_dropout, found {config.guidance}'
        )
    if config.act_dtype not in ('float32', 'bfloat16'):
        raise ValueError(
            f"agent.act_dtype: expected 'float32' or 'bfloat16', found {config.act_dtype!r}"
        )
    if config.eta and config.sampler != 'ddim':
        raise ValueError(f'agent.eta: expected 0 for {config.sampler!r}, found {config.eta}')
