"""From an agent's `act` to something that can be rolled out: `types.Policy`."""

import jax
import jax.numpy as jnp

from jaxpolicy import types


def of(agent: types.Agent, state, deterministic: bool = False) -> types.Policy:
    """The policy of an agent that acts step by step: `recurrent` if it has a memory."""
    if agent.memory is types.no_memory:
        return memoryless(agent, state, deterministic)
    return recurrent(agent, state, deterministic)


def memoryless(agent: types.Agent, state, deterministic: bool = False) -> types.Policy:
    """One observation in, one action out."""

    def act(carry, obs, key):
        action, extras = agent.act(state, obs, key, deterministic)
        return carry, action, extras

    return types.Policy(lambda obs: (), act)


def recurrent(agent: types.Agent, state, deterministic: bool = False) -> types.Policy:
    """Carries the agent's memory from step to step."""

    def act(memory, obs, key):
        seen = types.Remembered(obs, memory)
        action, extras = agent.act(state, seen, key, deterministic)
        others = {name: value for name, value in extras.items() if name != 'memory'}
        return extras['memory'], action, others

    return types.Policy(agent.memory, act)


def receding_horizon(
    agent: types.Agent,
    state,
    obs_horizon: int,
    action_horizon: int,
    deterministic: bool = False,
) -> types.Policy:
    """Plans a chunk from the last To observations, executes Ta actions of it, plans again.

    Executed are the chunk's actions To - 1 .. To - 2 + Ta. Before an episode's first step the
    history is its first observation repeated. The agent is called only on steps where at least one
    environment needs a plan; then it plans for all N, and only those that need one take it.

    Raises (from `init`):
      ValueError: a chunk is shorter than To - 1 + Ta.

    Source: Diffusion Policy (Chi et al., 2023), section III-B.
    """

    def plan(history, key):
        chunk, _ = agent.act(state, history, key, deterministic)
        return chunk[:, obs_horizon - 1 : obs_horizon - 1 + action_horizon]

    def init(obs):
        history = jax.tree.map(lambda x: jnp.stack([x] * obs_horizon, axis=1), obs)
        actions = jax.eval_shape(plan, history, jax.random.key(0))
        num_envs, num_planned = actions.shape[:2]
        if num_planned != action_horizon:
            raise ValueError(
                f'action_horizon: expected at most the {num_planned} actions that a chunk has left '
                f'from obs_horizon - 1 = {obs_horizon - 1} on, found {action_horizon}'
            )
        return {
            'history': history,  # [N, To, ...]
            'queue': jnp.zeros(actions.shape, actions.dtype),  # [N, Ta, A]
            'index': jnp.full((num_envs,), action_horizon, jnp.int32),  # [N]; Ta means empty
        }

    def act(carry, obs, key):
        history = jax.tree.map(
            lambda h, x: jnp.concatenate([h[:, 1:], x[:, None]], axis=1), carry['history'], obs
        )
        empty = carry['index'] >= action_horizon
        queue = jax.lax.cond(
            jnp.any(empty),
            lambda: jnp.where(empty[:, None, None], plan(history, key), carry['queue']),
            lambda: carry['queue'],
        )
        index = jnp.where(empty, 0, carry['index'])
        action = jnp.take_along_axis(queue, index[:, None, None], axis=1)[:, 0]
        return {'history': history, 'queue': queue, 'index': index + 1}, action, {}

    return types.Policy(init, act)
