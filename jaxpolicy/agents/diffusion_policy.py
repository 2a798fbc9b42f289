"""Diffusion Policy: denoise a chunk of actions, given the last observations.

Training: draw a noise level and eps ~ N(0, I), and minimise

    || target(x_0, eps) - f(x, k, o) ||^2,    x = signal x_0 + noise eps,

with x_0 the chunk [Tp, A]. The objective says which levels and which target: DDPM's eps, x_0 or v,
EDM, or a flow's velocity (`diffusion.objectives`). Acting runs any sampler from noise with the EMA
weights (`diffusion.samplers`).

Between two plans of an episode an agent may remember its last chunk (`Agent.memory`): to start from
it instead of from noise, or to keep the actions that are executed while it plans.

Known deviations from the reference code: padded steps do not count in the loss; gradients are
clipped by their global norm; DDIM visits evenly spaced levels from K - 1 to 0.

Sources: Chi et al., 2023 (arXiv:2303.04137); warm start: Hoeg et al., 2024 (arXiv:2406.04806)
use noisy chunks for it, here the last chunk is noised again; Black et al., 2025 (arXiv:2506.07339).
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives, process, samplers
from jaxpolicy.nets import embed
from jaxpolicy.ops import losses

SURPRISE_DRAWS = 8  # of level and noise, over which the surprise at a chunk is averaged
ACTING = (
    'sampler',
    'num_sample_steps',
    'eta',
    'clip',
    'guidance',
    'warm_steps',
    'inpaint_steps',
    'act_dtype',
    'action_horizon',
)


@dataclasses.dataclass(frozen=True)
class Config(chunks.Config):
    objective: str = 'eps'  # 'eps', 'x0', 'v', 'edm' or 'flow'
    schedule: str = 'squared_cosine'  # or 'linear'; of eps, x0 and v
    num_train_steps: int = 100  # K, of eps, x0 and v
    sampler: str = 'ddpm'  # 'ddpm', 'ddim', 'dpmpp_2m', 'heun', 'euler' or 'midpoint'
    num_sample_steps: int = 100  # intervals of the sampler's grid; at most K
    eta: float = 0.0  # of DDIM: 0 is deterministic, 1 is DDPM
    clip: float = 1.0  # of x_0 while sampling, in normalised actions
    condition_dropout: float = 0.0  # share of samples that train without observations
    guidance: float = 1.0  # classifier-free, 1: none; other values need condition_dropout
    warm_steps: int = 0  # last steps to run from the last chunk; 0: all of them, from noise
    inpaint_steps: int = 0  # actions from now on that the last chunk has fixed
    act_dtype: str = 'float32'  # of the network while sampling; or 'bfloat16'


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are `Chunk`s.

    Raises:
      ValueError: an unknown network, objective, schedule or sampler, discrete actions, or numbers
        that do not fit.
    """
    objective = objectives.make(config.objective, config.schedule, config.num_train_steps)
    grid = objective.grid(config.num_sample_steps)
    _validate(config, spec)
    action_dim = spec.action.shape[0]
    net = chunks.network(config)
    txs = {'denoiser': chunks.optimizer(config)}

    def init(key):
        params = {'denoiser': chunks.init_params(config, spec, key)}
        return train_state.create(params, txs, target_params=params)

    def loss_fn(params, batch, key):
        level_key, eps_key, drop_key = jax.random.split(key, 3)
        condition = embed.history(batch.obs, spec.obs)
        if config.condition_dropout:
            rows = (len(condition), 1, 1)
            kept = jax.random.bernoulli(drop_key, 1.0 - config.condition_dropout, rows)
            condition = condition * kept
        keys = (level_key, eps_key)
        output, target = denoise(net, objective, params, batch.action, condition, keys)
        return losses.chunk_mse(output, target, batch.mask)

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['denoiser'], batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'denoiser': grads}, config.ema_power)
        return state, metrics

    def act(state, obs, key, deterministic=False):
        del deterministic  # a sample is the policy
        remembered = isinstance(obs, types.Remembered)
        memory, seen = (obs.memory, obs.obs) if remembered else (None, obs)
        condition = embed.history(seen, spec.obs)
        params = state.target_params['denoiser']
        predict = denoiser(config, net, objective, params, condition)
        if config.guidance != 1.0:
            nothing = jnp.zeros_like(condition)
            without = denoiser(config, net, objective, params, nothing)
            predict = samplers.guided(predict, without, config.guidance)
        predict = samplers.clipped(predict, config.clip)
        noise_key, sampler_key = jax.random.split(key)
        eps = jax.random.normal(noise_key, (len(condition), config.pred_horizon, action_dim))
        chunk = _sample(config, predict, grid, eps, memory, sampler_key)
        return chunk, {'memory': _remember(config, chunk)} if remembered else {}

    def surprise(state, chunk, key):
        condition = embed.history(chunk.obs, spec.obs)
        params = state.target_params['denoiser']
        return denoising_error(net, objective, params, chunk, condition, key)

    remembers = bool(config.warm_steps or config.inpaint_steps)
    memory = functools.partial(_no_chunk_yet, config, action_dim) if remembers else types.no_memory
    return types.Agent(init, update, act, memory, surprise)


def denoise(net, objective, params, action, condition, keys) -> tuple[jax.Array, jax.Array]:
    """What the network says of noisy chunks and what it should say, [B, Tp, A] each."""
    level_key, eps_key = keys
    level = process.each(objective.draw(level_key, len(action)), action)
    eps = jax.random.normal(eps_key, action.shape)
    x = process.add_noise(action, eps, level)
    output = net.apply(params, x * objective.scale(level), level.k.reshape(-1), condition)
    return output, objective.target(action, eps, level)


def denoising_error(net, objective, params, chunk, condition, key) -> jax.Array:
    """The loss of each chunk, [B], averaged over draws of level and noise.

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


def _no_chunk_yet(config: Config, action_dim: int, obs) -> dict[str, jax.Array]:
    """What an episode begins with."""
    rows = len(jax.tree.leaves(obs)[0])
    last = jnp.zeros((rows, config.pred_horizon, action_dim))
    return {'last': last, 'fresh': jnp.ones((rows,), bool)}


def _remember(config: Config, chunk: jax.Array) -> dict[str, jax.Array]:
    """The chunk as the next plan will see it, Ta steps later; its last action is repeated."""
    steps = jnp.minimum(
        jnp.arange(config.pred_horizon) + config.action_horizon, config.pred_horizon - 1
    )
    return {'last': chunk[:, steps], 'fresh': jnp.zeros(len(chunk), bool)}


def _sample(config: Config, predict, grid, eps, memory, key) -> jax.Array:
    """A chunk [B, Tp, A], from noise or, where an episode is under way, from the last chunk."""
    sampler = samplers.SAMPLERS[config.sampler]
    if config.sampler == 'ddim':
        sampler = lambda *args: samplers.ddim(*args, eta=config.eta)  # noqa: E731
    if memory is None:
        return sampler(predict, process.start(eps, grid), grid, key)
    fresh = memory['fresh'][:, None, None]
    if config.inpaint_steps:
        weight = jnp.where(fresh, 0.0, _soft_mask(config)[:, None])
        predict = samplers.inpainted(predict, memory['last'], weight)

    def cold():
        return sampler(predict, process.start(eps, grid), grid, key)

    if not config.warm_steps:
        return cold()
    tail = jax.tree.map(lambda a: a[-config.warm_steps - 1 :], grid)
    first = jax.tree.map(lambda a: jnp.asarray(a[0]), tail)
    warm = sampler(predict, process.add_noise(memory['last'], eps, first), tail, key)
    return jnp.where(fresh, jax.lax.cond(jnp.any(fresh), cold, lambda: warm), warm)


def _soft_mask(config: Config) -> jax.Array:
    """How much the last chunk counts, [Tp]: 1 where it is fixed, then less, 0 beyond its end.

    Source: Black et al., 2025 (arXiv:2506.07339), equation 5.
    """
    fixed = config.obs_horizon - 1 + config.inpaint_steps
    end = config.pred_horizon - config.action_horizon
    i = jnp.arange(config.pred_horizon)
    c = (end - i) / (end - fixed + 1)
    between = c * jnp.expm1(c) / jnp.expm1(1.0)
    return jnp.where(i < fixed, 1.0, jnp.where(i < end, between, 0.0))


def _validate(config: Config, spec: types.Spec) -> None:
    types.check_actions(spec)
    if config.sampler not in samplers.SAMPLERS:
        raise ValueError(
            f'agent.sampler: expected one of {tuple(samplers.SAMPLERS)}, found {config.sampler!r}'
        )
    steps = config.num_sample_steps
    if not 0 <= config.warm_steps <= steps:
        raise ValueError(f'agent.warm_steps: expected 0 to {steps}, found {config.warm_steps}')
    if config.sampler == 'midpoint' and (steps % 2 or config.warm_steps % 2):
        raise ValueError(
            f'agent.num_sample_steps, agent.warm_steps: expected even numbers for midpoint, found '
            f'{steps}, {config.warm_steps}'
        )
    room = config.pred_horizon - config.obs_horizon + 1 - config.action_horizon
    if not 0 <= config.inpaint_steps <= room:
        raise ValueError(
            f'agent.inpaint_steps: expected 0 to {room} (what a chunk has left after '
            f'action_horizon {config.action_horizon}), found {config.inpaint_steps}'
        )
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
