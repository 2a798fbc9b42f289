"""From an agent's `act` to something that can be rolled out: `types.Policy`."""

from collections.abc import Callable

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
    delay: int = 0,
) -> types.Policy:
    """Plans a chunk from the last To observations, executes Ta actions of it, plans again.

    Executed are the chunk's actions To - 1 .. To - 2 + Ta. Before an episode's first step the
    history is its first observation repeated. The agent is called only on steps where at least one
    environment needs a plan; then it plans for all N, and only those that need one take it.

    With a `delay` of d steps a plan takes that long: the d actions that the last chunk has left are
    executed meanwhile, instead of the new chunk's first d (an episode's first plan is there at
    once). An agent with a memory finds there what it kept of its last chunk.

    Raises (from `init`):
      ValueError: a chunk is shorter than To - 1 + Ta + d.

    Source: Chi et al., 2023, section III-B; the delay: Black et al., 2025 (arXiv:2506.07339).
    """
    first, length = obs_horizon - 1, action_horizon + delay

    def plan(history, memory, key):
        seen = history if agent.memory is types.no_memory else types.Remembered(history, memory)
        chunk, extras = agent.act(state, seen, key, deterministic)
        return chunk[:, first : first + length], extras.get('memory', ())

    def init(obs):
        history = jax.tree.map(lambda x: jnp.stack([x] * obs_horizon, axis=1), obs)
        memory = agent.memory(obs)
        actions, _ = jax.eval_shape(plan, history, memory, jax.random.key(0))
        _check_length(actions.shape[1], length, first, delay)
        return {
            'history': history,  # [N, To, ...]
            'queue': jnp.zeros(actions.shape, actions.dtype),  # [N, Ta + d, A]
            'index': jnp.full(actions.shape[:1], -1, jnp.int32),  # [N]; -1: there was no plan yet
            'memory': memory,  # of the agent
        }

    def act(carry, obs, key):
        history, old = append(carry['history'], obs), (carry['queue'], carry['memory'])
        needed = (carry['index'] < 0) | (carry['index'] >= action_horizon)

        def replan():
            actions, memory = plan(history, carry['memory'], key)
            left = carry['queue'][:, action_horizon:]
            left = _where(carry['index'] < 0, actions[:, :delay], left)
            actions = jnp.concatenate([left, actions[:, delay:]], axis=1)
            return jax.tree.map(lambda a, b: _where(needed, a, b), (actions, memory), old)

        queue, memory = jax.lax.cond(jnp.any(needed), replan, lambda: old)
        index = jnp.where(needed, 0, carry['index'])
        action = jnp.take_along_axis(queue, index[:, None, None], axis=1)[:, 0]
        carry = {'history': history, 'queue': queue, 'index': index + 1, 'memory': memory}
        return carry, action, {}

    return types.Policy(init, act)


def _check_length(planned: int, length: int, first: int, delay: int) -> None:
    if planned != length:
        raise ValueError(
            f'action_horizon: expected at most the {planned - delay} actions that a chunk has left '
            f'from obs_horizon - 1 = {first} on with a delay of {delay}, found {length - delay}'
        )


def temporal_ensemble(
    agent: types.Agent, state, obs_horizon: int, decay: float, deterministic: bool = False
) -> types.Policy:
    """Plans at every step; executes a weighted mean of all that was planned for this step.

    The i-th prediction for a step, the oldest first, weighs exp(-decay i): above 0 older ones
    count more, below 0 newer ones.

    Source: Zhao et al., 2023 (ACT, arXiv:2304.13705), section IV-A, algorithm 2.
    """
    if agent.memory is not types.no_memory:
        raise ValueError('temporal_ensemble: expected an agent that keeps nothing between plans')

    def plan(history, key):
        return agent.act(state, history, key, deterministic)[0][:, obs_horizon - 1 :]

    def init(obs):
        history = jax.tree.map(lambda x: jnp.stack([x] * obs_horizon, axis=1), obs)
        actions = jax.eval_shape(plan, history, jax.random.key(0))
        zeros = jnp.zeros(actions.shape[:2])
        return {
            'history': history,  # [N, To, ...]
            'total': jnp.zeros(actions.shape),  # [N, L, A], weighted sums from this step on
            'weight': zeros,  # [N, L]
            'count': zeros,  # [N, L], predictions so far
        }

    def act(carry, obs, key):
        history = append(carry['history'], obs)
        weight = jnp.exp(-decay * carry['count'])
        total = carry['total'] + weight[..., None] * plan(history, key)
        weight = carry['weight'] + weight
        action = total[:, 0] / weight[:, :1]
        rest = {'total': total, 'weight': weight, 'count': carry['count'] + 1.0}
        rest = jax.tree.map(lambda x: jnp.roll(x, -1, axis=1).at[:, -1].set(0.0), rest)
        return {'history': history, **rest}, action, {}

    return types.Policy(init, act)


def ahead_of_time(
    make_policy: Callable[[types.PyTree], types.Policy],
    state: types.PyTree,
    spec: types.Spec,
    num_envs: int,
) -> types.Policy:
    """A policy for N robots that is compiled and has planned once: its first action is not late.

    Args:
      make_policy: state -> Policy, as `receding_horizon` with all but the state given.
      spec: of one robot's observation; what is passed later is converted to its dtypes.
    """

    def convert(obs):
        return jax.tree.map(lambda x, s: jnp.asarray(x, s.dtype), obs, spec.obs)

    key = jax.random.key(0)
    obs = jax.tree.map(lambda s: jnp.zeros((num_envs, *s.shape), s.dtype), spec.obs)
    init = jax.jit(lambda state, obs: make_policy(state).init(obs)).lower(state, obs).compile()
    carry = init(state, obs)
    act = jax.jit(lambda state, carry, obs, key: make_policy(state).act(carry, obs, key))
    act = act.lower(state, carry, obs, key).compile()
    for _ in range(2):  # with a plan, and without
        carry, action, _ = jax.block_until_ready(act(state, carry, obs, key))
    del carry, action
    return types.Policy(
        init=lambda obs: init(state, convert(obs)),
        act=lambda carry, obs, key: act(state, carry, convert(obs), key),
    )


def append(history, obs):
    """Histories [N, To, ...] without their oldest entry, with the newest one."""
    return jax.tree.map(lambda h, x: jnp.concatenate([h[:, 1:], x[:, None]], axis=1), history, obs)


def _where(rows, a, b):
    return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
