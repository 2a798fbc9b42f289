"""Plans that begin with the last one: ScoringAgent -> ScoringAgent, for agents that denoise chunks.

Between two plans of an episode the policy carries its last chunk, shifted by Ta steps to where the
next plan begins. Two things can be done with it, alone or together:

    warm start  sampling starts from the last chunk, noised to a level near data, instead of from
                noise, and so runs only the last steps of the grid. Hoeg et al., 2024
                (arXiv:2406.04806) keep noisy chunks for it; here the last chunk is noised again.
    inpainting  the actions that are executed while the robot plans are kept as they are, and the
                ones behind them are drawn towards the last chunk. Black et al., 2025 (real-time
                chunking, arXiv:2506.07339).

The first plan of an episode starts from noise and keeps nothing.
"""

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import process, samplers


def plan_from_last_chunk(
    agent: types.ScoringAgent,
    sampling: chunks.Sampling,
    action_horizon: int,
    obs_horizon: int,
    warm_start_steps: int = 0,
    inpaint_actions: int = 0,
) -> types.ScoringAgent:
    """The agent with a policy that carries its last chunk.

    Normalisers belong around the result: the chunk is carried in the agent's own units.

    Args:
      sampling: how the agent samples; `diffusion_policy.sampling` returns it.
      action_horizon: Ta, actions that are executed before the next plan.
      obs_horizon: To.
      warm_start_steps: last steps of the sampler to run from the last chunk; 0: all, from noise.
      inpaint_actions: how many actions from now on are kept from the last chunk; 0: no inpainting.

    Raises:
      ValueError: an agent of another kind, or numbers that do not fit.
    """
    if not isinstance(agent, types.ScoringAgent):
        raise ValueError(
            'plan_from_last_chunk: expected a ScoringAgent that denoises chunks, found '
            f'{type(agent).__name__}'
        )
    pred_horizon = sampling.shape[0]
    check_warm_start(sampling, warm_start_steps)
    check_inpainting(pred_horizon, obs_horizon, action_horizon, inpaint_actions)

    def policy(state, deterministic=False):
        del deterministic  # both kinds of policy draw a sample

        def act(carry, history, key):
            predict = sampling.predictor(state, history)
            noise_key, sampler_key = jax.random.split(key)
            eps = jax.random.normal(noise_key, carry['last'].shape)
            if inpaint_actions:
                mask = soft_mask(pred_horizon, obs_horizon, action_horizon, inpaint_actions)
                weight = jnp.where(carry['fresh'][:, None, None], 0.0, mask[:, None])
                predict = samplers.inpainted(predict, carry['last'], weight)
            chunk = _sample(sampling, predict, eps, carry, warm_start_steps, sampler_key)
            return _as_seen_later(chunk, action_horizon), chunk, {}

        return types.Policy(lambda history: _no_chunk_yet(sampling.shape, history), act)

    return agent._replace(policy=policy)


def check_warm_start(sampling: chunks.Sampling, warm_start_steps: int) -> None:
    """Raises a ValueError if the sampler cannot run so many steps from the last chunk."""
    most = len(sampling.grid.k) - 1
    if not 0 <= warm_start_steps <= most:
        raise ValueError(
            f'execute.warm_start_steps: expected 0 to {most}, found {warm_start_steps}'
        )
    if warm_start_steps:
        try:
            sampling.sampler.plan(_tail(sampling.grid, warm_start_steps))
        except ValueError as error:
            raise ValueError(f'execute.warm_start_steps: {error}') from error


def check_inpainting(
    pred_horizon: int, obs_horizon: int, action_horizon: int, inpaint_actions: int
) -> None:
    """Raises a ValueError if more actions are to be kept than a chunk has left at the next plan."""
    room = pred_horizon - obs_horizon + 1 - action_horizon
    if not 0 <= inpaint_actions <= room:
        raise ValueError(
            f'execute.inpaint_actions: expected 0 to {room} (what a chunk has left after '
            f'action_horizon {action_horizon}), found {inpaint_actions}'
        )


def soft_mask(
    pred_horizon: int, obs_horizon: int, action_horizon: int, inpaint_actions: int
) -> jax.Array:
    """How much the last chunk counts, [Tp]: 1 where it is fixed, then less, 0 beyond its end.

    Source: Black et al., 2025 (arXiv:2506.07339), equation 5.
    """
    fixed = obs_horizon - 1 + inpaint_actions
    end = pred_horizon - action_horizon
    i = jnp.arange(pred_horizon)
    c = (end - i) / (end - fixed + 1)
    between = c * jnp.expm1(c) / jnp.expm1(1.0)
    return jnp.where(i < fixed, 1.0, jnp.where(i < end, between, 0.0))


def _no_chunk_yet(shape: tuple[int, int], history: types.PyTree) -> dict[str, jax.Array]:
    """The carry that an episode begins with."""
    rows = len(jax.tree.leaves(history)[0])
    return {'last': jnp.zeros((rows, *shape)), 'fresh': jnp.ones((rows,), bool)}


def _as_seen_later(chunk: jax.Array, action_horizon: int) -> dict[str, jax.Array]:
    """The chunk as the next plan will see it, Ta steps later; its last action is repeated."""
    last = chunk.shape[1] - 1
    steps = jnp.minimum(jnp.arange(chunk.shape[1]) + action_horizon, last)
    return {'last': chunk[:, steps], 'fresh': jnp.zeros(len(chunk), bool)}


def _sample(sampling: chunks.Sampling, predict, eps, carry, warm_start_steps, key) -> jax.Array:
    """A chunk [B, Tp, A], from noise or, where an episode is under way, from the last chunk."""

    def cold():
        x = process.start(eps, sampling.grid)
        return samplers.sample(sampling.sampler, predict, x, sampling.grid, key)

    if not warm_start_steps:
        return cold()
    fresh, tail = carry['fresh'][:, None, None], _tail(sampling.grid, warm_start_steps)
    first = jax.tree.map(lambda a: jnp.asarray(a[0]), tail)
    noisy = process.add_noise(carry['last'], eps, first)
    warm = samplers.sample(sampling.sampler, predict, noisy, tail, key)
    return jnp.where(fresh, jax.lax.cond(jnp.any(fresh), cold, lambda: warm), warm)


def _tail(grid: process.Level, num_steps: int) -> process.Level:
    """The last intervals of the grid."""
    return jax.tree.map(lambda a: a[-num_steps - 1 :], grid)
