"""Policy -> Policy: makes a policy that acts step by step from a planner of chunks.

A planner is a policy that sees a history of observations and whose action is a chunk of actions;
see `types.Policy`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpolicy import types


def receding_horizon(
    planner: types.Policy, obs_horizon: int, action_horizon: int, delay: int = 0
) -> types.Policy:
    """Plans a chunk from the last To observations, executes Ta actions of it, and plans again.

    It executes the chunk's actions To - 1 .. To - 2 + Ta. Before an episode's first step the
    history is its first observation, repeated. The planner is called only on steps where at least
    one environment needs a plan. It then plans for all N, but only those that need one take it.

    With a `delay`, a plan arrives d steps late: in place of its first d actions, the robot executes
    those that are left of the last chunk. An episode's first plan arrives at once. The planner's
    carry is kept between plans, and changes only for the environments that take a new plan.

    Raises (from `init`):
      ValueError: a chunk is shorter than To - 1 + Ta + d.

    Source: Chi et al., 2023, section III-B; the delay: Black et al., 2025 (arXiv:2506.07339).
    """
    first, length = obs_horizon - 1, action_horizon + delay

    def plan(history, memory, key):
        memory, chunk, _ = planner.act(memory, history, key)
        return chunk[:, first : first + length], memory

    def init(obs):
        history = jax.tree.map(lambda x: jnp.stack([x] * obs_horizon, axis=1), obs)
        memory = planner.init(history)
        actions, _ = jax.eval_shape(plan, history, memory, jax.random.key(0))
        _check_length(actions.shape[1], length, first, delay)
        return {
            'history': history,  # [N, To, ...]
            'queue': jnp.zeros(actions.shape, actions.dtype),  # [N, Ta + d, A]
            'index': jnp.full(actions.shape[:1], -1, jnp.int32),  # [N]; -1 before the first plan
            'memory': memory,  # the planner's carry
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


def temporal_ensemble(planner: types.Policy, obs_horizon: int, decay: float) -> types.Policy:
    """Plans at every step, and executes a weighted mean of all actions planned for this step.

    The i-th action planned for a step, the oldest first, has the weight exp(-decay i). So older
    plans count more if `decay` is above 0, and newer ones if it is below 0. Where an action is one
    of M choices, plans vote with these weights, and the newest plan decides between equal votes.

    Source: Zhao et al., 2023 (ACT, arXiv:2304.13705), section IV-A, algorithm 2.

    Raises (from `init`):
      ValueError: the planner carries something from one plan to the next.
    """

    def plan(history, key):
        return planner.act((), history, key)[1][:, obs_horizon - 1 :]

    def init(obs):
        history = jax.tree.map(lambda x: jnp.stack([x] * obs_horizon, axis=1), obs)
        types.check_memoryless(planner.init(history), 'temporal_ensemble')
        actions = jax.eval_shape(plan, history, jax.random.key(0))
        zeros = jnp.zeros(actions.shape[:2])
        return {
            'history': history,  # [N, To, ...]
            'total': jnp.zeros(actions.shape),  # [N, L, A], weighted sums from this step on
            'weight': zeros,  # [N, L]
            'count': zeros,  # [N, L], plans so far
        }

    def act(carry, obs, key):
        history = append(carry['history'], obs)
        weight = jnp.exp(-decay * carry['count'])
        planned = plan(history, key)
        total = carry['total'] + weight[..., None] * planned
        weight = carry['weight'] + weight
        action = total[:, 0] / weight[:, :1]
        if jnp.issubdtype(planned.dtype, jnp.integer):
            action = _elected(action, planned[:, 0])
        rest = {'total': total, 'weight': weight, 'count': carry['count'] + 1.0}
        rest = jax.tree.map(lambda x: jnp.roll(x, -1, axis=1).at[:, -1].set(0.0), rest)
        return {'history': history, **rest}, action, {}

    return types.Policy(init, act)


def _elected(votes, newest):
    """The choices, one-hot [N, M], with the most votes [N, M]; `newest` [N, M] breaks ties."""
    most = votes >= jnp.max(votes, axis=-1, keepdims=True) - 1e-5  # of votes that sum to 1
    choice = jnp.argmax(jnp.where(most, 1 + newest, 0), axis=-1)
    return jax.nn.one_hot(choice, votes.shape[-1], dtype=newest.dtype)


def guarded(policy: types.Policy, spec: types.Spec) -> types.Policy:
    """The policy with actions that a robot can execute: finite, and within [-1, 1] if continuous.

    Where an observation or the action is not finite, the robot repeats its last action, which is 0
    (the first choice) before the first, and the policy remembers nothing of this step;
    extras['held'] [N] says where.
    """
    none = jnp.zeros(spec.action.shape, spec.action.dtype)
    none = none.at[0].set(1) if types.is_discrete(spec) else none

    def cleaned(obs):
        sound = _finite_rows(obs)
        return sound, jax.tree.map(lambda x: _where(sound, x, jnp.zeros_like(x)), obs)

    def init(obs):
        sound, obs = cleaned(obs)
        last = jnp.broadcast_to(none, (len(sound), *none.shape))
        return {'policy': policy.init(obs), 'last': last}

    def act(carry, obs, key):
        sound, obs = cleaned(obs)
        new, action, extras = policy.act(carry['policy'], obs, key)
        sound &= _finite_rows(action)
        if not types.is_discrete(spec):
            action = jnp.clip(action, -1.0, 1.0)
        action = _where(sound, action, carry['last'])
        new = jax.tree.map(lambda a, b: _where(sound, a, b), new, carry['policy'])
        return {'policy': new, 'last': action}, action, {**extras, 'held': ~sound}

    return types.Policy(init, act)


def ahead_of_time(
    make_policy: Callable[[types.PyTree], types.Policy],
    state: types.PyTree,
    spec: types.Spec,
    num_envs: int,
) -> types.Policy:
    """Compiles a policy for N robots and runs it once, so that its first action is not late.

    It is `guarded`, as its actions may go to a real robot.

    Args:
      make_policy: state -> Policy, such as `receding_horizon` around an agent's planner.
      state: what `make_policy` takes, such as the agent's train state.
      spec: describes one robot's observation; later observations are converted to its dtypes.
      num_envs: N.
    """

    def make(state):
        return guarded(make_policy(state), spec)

    def convert(obs):
        return jax.tree.map(lambda x, s: jnp.asarray(x, s.dtype), obs, spec.obs)

    key = jax.random.key(0)
    obs = jax.tree.map(lambda s: jnp.zeros((num_envs, *s.shape), s.dtype), spec.obs)
    init = jax.jit(lambda state, obs: make(state).init(obs)).lower(state, obs).compile()
    carry = init(state, obs)
    act = jax.jit(lambda state, carry, obs, key: make(state).act(carry, obs, key))
    act = act.lower(state, carry, obs, key).compile()
    for _ in range(2):  # the first step plans, the second does not
        carry, action, _ = jax.block_until_ready(act(state, carry, obs, key))
    del carry, action
    return types.Policy(
        init=lambda obs: init(state, convert(obs)),
        act=lambda carry, obs, key: act(state, carry, convert(obs), key),
    )


def append(history, obs):
    """Drops the oldest entry of histories [N, To, ...] and appends the newest observation."""
    return jax.tree.map(lambda h, x: jnp.concatenate([h[:, 1:], x[:, None]], axis=1), history, obs)


def _finite_rows(tree) -> jax.Array:
    """[N] bool: of which rows all numbers are finite."""
    rows = [jnp.isfinite(x).reshape(len(x), -1).all(axis=1) for x in jax.tree.leaves(tree)]
    return jnp.stack(rows).all(axis=0)


def _where(rows, a, b):
    return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
