"""A learner and an expert in turns: episodes in blocks, and the expert's answers about them.

At the start of a block of Ta steps the learner plans a chunk for every robot, as a receding horizon
does, a gate scores it, and the expert takes over where a score is above its threshold; it begins
anew there, without memory of what was before. Afterwards `ask` rolls the expert forward from states
in which blocks began: what it would do there is a chunk's target.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import types
from jaxpolicy.envs.wrap import vectorize
from jaxpolicy.loops import policies
from jaxpolicy.loops.dagger import gates

PyTree = types.PyTree


@dataclasses.dataclass(frozen=True)
class Horizons:
    """Lengths in control steps."""

    obs: int  # To
    pred: int  # Tp
    action: int  # Ta, also the length of a block
    episode: int

    @property
    def num_blocks(self) -> int:
        """Blocks in an episode."""
        return -(-self.episode // self.action)


class Expert(NamedTuple):
    """act as `policy`, which sees see(EnvState [N]): for a privileged one more than the learner."""

    policy: types.Policy
    see: Callable[[types.EnvState], PyTree]


class Steps(struct.PyTreeNode):
    """Single steps, leaves [B, Ta, N, ...]."""

    obs: PyTree  # the learner's
    action: jax.Array
    running: jax.Array  # bool: the step belongs to an episode
    intervention: jax.Array  # bool: the expert acted
    success: jax.Array


class Blocks(struct.PyTreeNode):
    """What was met when each of B blocks began, leaves [B, N, ...]."""

    env_state: types.EnvState
    chunk: types.Chunk  # the last observations and the learner's plan
    past: jax.Array  # [B, N, To - 1, A], the last actions
    expert_carry: PyTree
    scores: jax.Array  # [B, N, S]
    reached: jax.Array  # [B, N] bool: the episode still ran
    control: jax.Array  # [B, N] bool: the expert takes over


class Situation(NamedTuple):
    """What does not change during an episode: weights and thresholds."""

    train: PyTree
    risk: PyTree
    thresholds: jax.Array  # [S]
    enabled: jax.Array  # [] bool: the gate decides, else the learner acts alone
    deterministic: bool = True  # how the learner acts: as it is evaluated


def explore(
    agent: types.Agent,
    env: types.Env,
    expert: Expert,
    gate: gates.Gate,
    horizons: Horizons,
    situation: Situation,
    keys: types.Key,
    key: types.Key,
) -> tuple[Blocks, Steps]:
    """One episode for each of `keys` [N]."""
    state = env.reset(keys)
    history = jax.tree.map(lambda x: jnp.stack([x] * horizons.obs, axis=1), state.obs)
    no, num = jnp.zeros(len(keys), bool), len(keys)
    past = jnp.zeros((num, horizons.obs - 1, *env.spec.action.shape))
    # `before`: the expert acted in the last block
    carry = (state, history, past, expert.policy.init(expert.see(state)), ~no, no)

    def block(carry, key):
        state, history, past, expert_carry, running, before = carry
        plan_key, suggest_key, gate_key, act_key = jax.random.split(key, 4)
        plan, extras = agent.act(situation.train, history, plan_key, situation.deterministic)
        chunk = types.Chunk(history, plan, jnp.ones(plan.shape[:2], bool))
        anew = expert.policy.init(expert.see(state))
        expert_carry = vectorize.select(before, expert_carry, anew)
        suggestion = jnp.zeros((num, *env.spec.action.shape))
        if gate.uses_expert:
            suggestion = expert.policy.act(expert_carry, expert.see(state), suggest_key)[1]
        seen = gates.Seen(situation.train, situation.risk, chunk, extras, suggestion)
        scores = gate.score(seen, gate_key)
        control = jnp.any(scores > situation.thresholds, axis=-1) & running & situation.enabled
        met = Blocks(state, chunk, past, expert_carry, scores, running, control)
        carry = (state, history, past, expert_carry, running)
        planned = jnp.moveaxis(plan, 1, 0)[horizons.obs - 1 :][: horizons.action]
        xs = (planned, jax.random.split(act_key, horizons.action))
        carry, steps = jax.lax.scan(lambda c, x: _step(env, expert, control, c, x), carry, xs)
        return (*carry, control), (met, steps)

    return jax.lax.scan(block, carry, jax.random.split(key, horizons.num_blocks))[1]


def _step(env: types.Env, expert: Expert, control: jax.Array, carry, planned_and_key):
    """One control step of N robots, which the expert steers where `control` [N]."""
    state, history, past, expert_carry, running = carry
    planned, key = planned_and_key
    obs = state.obs

    def steer(expert_carry):
        new, action, _ = expert.policy.act(expert_carry, expert.see(state), key)
        return vectorize.select(control, (new, action), (expert_carry, planned))

    idle = lambda expert_carry: (expert_carry, planned)  # noqa: E731
    expert_carry, action = jax.lax.cond(jnp.any(control), steer, idle, expert_carry)
    state = env.step(state, action)
    steps = Steps(obs, action, running, control & running, state.metrics['success'] > 0)
    history = policies.append(history, state.obs)
    past = jnp.concatenate([past, action[:, None]], axis=1)[:, 1:]
    running = running & ~(state.termination | state.truncation)
    return (state, history, past, expert_carry, running), steps


def ask(
    env: types.Env,
    expert: Expert,
    blocks: Blocks,
    eligible: jax.Array,
    num_queries: int,
    horizons: Horizons,
    key: types.Key,
) -> tuple[types.Chunk, jax.Array]:
    """Labels Q random ones of the eligible starts of blocks, eligible [B, N].

    Returns:
      Chunks [Q], whose mask is True where the expert acted before its episode's end, and which of
      them are valid [Q], those first: fewer than Q may be eligible. Earlier actions are the
      executed ones, later ones the last; the mask is False on both.
    """
    order_key, roll_key = jax.random.split(key)
    priority = jnp.where(eligible, jax.random.uniform(order_key, eligible.shape), -1.0)
    priority, index = jax.lax.top_k(priority.reshape(-1), num_queries)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[index], blocks)
    state = flat.env_state
    # who acts goes on as it was; who is only asked begins anew, as `explore` has seen to
    carry = (state, flat.expert_carry, flat.reached)

    def step(carry, key):
        state, expert_carry, running = carry
        expert_carry, action, _ = expert.policy.act(expert_carry, expert.see(state), key)
        state = env.step(state, action)
        still = running & ~(state.termination | state.truncation)
        return (state, expert_carry, still), (action, running)

    num_future = horizons.pred - horizons.obs + 1
    actions, mask = jax.lax.scan(step, carry, jax.random.split(roll_key, num_future))[1]
    last = jnp.maximum(jnp.sum(mask, axis=0) - 1, 0)  # [Q]
    row = jnp.minimum(jnp.arange(num_future)[:, None], last)
    actions = jnp.take_along_axis(actions, row[..., None], axis=0)
    actions, mask = jnp.moveaxis(actions, 0, 1), mask.T
    valid = priority >= 0.0
    before = jnp.zeros((num_queries, horizons.obs - 1), bool)
    labelled = types.Chunk(
        obs=flat.chunk.obs,
        action=jnp.concatenate([flat.past, actions], axis=1),
        mask=jnp.concatenate([before, mask & valid[:, None]], axis=1),
    )
    return labelled, valid


def succeeded(steps: Steps) -> jax.Array:
    """Which episodes succeeded, [N] bool."""
    return jnp.any(steps.success & steps.running, axis=(0, 1))
