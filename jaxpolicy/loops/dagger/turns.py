"""A learner and an expert act in turns, block by block, and the expert labels states afterwards.

At the start of a block of Ta steps the learner plans a chunk for every robot, as with a receding
horizon, and a gate scores the plan. The expert takes over where a score is above its threshold. It
starts there with a fresh carry, unless it also acted in the block before. Afterwards `ask` rolls
the expert forward from states in which blocks began; its actions are the targets of chunks.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import types
from jaxpolicy.envs.wrap import auto_reset, vectorize
from jaxpolicy.loops import policies
from jaxpolicy.loops.dagger import gates

PyTree = types.PyTree


@dataclasses.dataclass(frozen=True)
class Horizons:
    """Lengths in control steps."""

    obs: int  # To
    pred: int  # Tp
    action: int  # Ta, also the length of a block
    episode: int  # the time limit

    @property
    def num_blocks(self) -> int:
        """Blocks in an episode."""
        return -(-self.episode // self.action)


class Expert(NamedTuple):
    """An expert's policy, and what it sees: a privileged expert sees more than the learner."""

    policy: types.Policy
    see: Callable[[types.EnvState], PyTree]  # EnvState [N] -> the policy's observation [N, ...]


class Steps(struct.PyTreeNode):
    """The single steps of N episodes, leaves [B, Ta, N, ...]."""

    obs: PyTree  # what the learner sees
    action: jax.Array
    running: jax.Array  # bool: the step belongs to an episode
    intervention: jax.Array  # bool: the expert acted
    success: jax.Array


class Blocks(struct.PyTreeNode):
    """The situation when each of B blocks began, leaves [B, N, ...]."""

    env_state: types.EnvState
    chunk: types.Chunk  # the last observations and the learner's plan
    past: jax.Array  # [B, N, To - 1, A], the last executed actions
    expert_carry: PyTree
    scores: jax.Array  # [B, N, S]
    reached: jax.Array  # [B, N] bool: the episode still ran
    control: jax.Array  # [B, N] bool: the expert takes over
    broke: jax.Array  # [B, N] bool: the world broke in this block


class Situation(NamedTuple):
    """The weights and thresholds, which do not change during an episode."""

    train: PyTree
    risk: PyTree
    thresholds: jax.Array  # [S]
    enabled: jax.Array  # [] bool: the gate decides, else the learner acts alone
    deterministic: bool = True  # True: the learner acts as in evaluation; False: as it explores


def explore(
    agent: types.AnyAgent,
    env: types.Env,
    expert: Expert,
    gate: gates.Gate,
    horizons: Horizons,
    situation: Situation,
    keys: types.Key,
    key: types.Key,
) -> tuple[Blocks, Steps]:
    """Runs one episode for each of `keys` [N], in which learner and expert act in turns.

    Raises:
      ValueError: the agent's planner remembers something between two chunks.
    """
    state, broke = _zeroed(env.reset(keys))
    history = jax.tree.map(lambda x: jnp.stack([x] * horizons.obs, axis=1), state.obs)
    planner = agent.policy(situation.train, situation.deterministic)
    types.check_memoryless(planner.init(history), 'loop dagger')
    no, num = jnp.zeros(len(keys), bool), len(keys)
    none = jnp.zeros((num, *env.spec.action.shape), env.spec.action.dtype)
    past = jnp.repeat(none[:, None], horizons.obs - 1, axis=1)
    # The last entry of the carry, `before`, says where the expert acted in the last block.
    carry = (state, history, past, expert.policy.init(expert.see(state)), ~broke, no)

    def block(carry, key):
        state, history, past, expert_carry, running, before = carry
        plan_key, suggest_key, gate_key, act_key = jax.random.split(key, 4)
        _, plan, extras = planner.act((), history, plan_key)
        chunk = types.Chunk(history, plan, jnp.ones(plan.shape[:2], bool))
        anew = expert.policy.init(expert.see(state))
        expert_carry = vectorize.select(before, expert_carry, anew)
        suggestion = none
        if gate.uses_expert:
            suggestion = expert.policy.act(expert_carry, expert.see(state), suggest_key)[1]
        seen = gates.Seen(situation.train, situation.risk, chunk, extras, suggestion)
        scores = gate.score(seen, gate_key)
        control = jnp.any(scores > situation.thresholds, axis=-1) & running & situation.enabled
        met = (state, chunk, past, expert_carry, scores, running, control)
        carry = (state, history, past, expert_carry, running)
        planned = jnp.moveaxis(plan, 1, 0)[horizons.obs - 1 :][: horizons.action]
        xs = (planned, jax.random.split(act_key, horizons.action))
        one = functools.partial(_step, env, expert, control)
        carry, (steps, broke) = jax.lax.scan(one, carry, xs)
        return (*carry, control), (Blocks(*met, broke.any(axis=0)), steps)

    return jax.lax.scan(block, carry, jax.random.split(key, horizons.num_blocks))[1]


def _step(env: types.Env, expert: Expert, control: jax.Array, carry, planned_and_key):
    """One control step of N robots; the expert acts where `control` [N] is True."""
    state, history, past, expert_carry, running = carry
    planned, key = planned_and_key
    obs = state.obs

    def steer(expert_carry):
        new, action, _ = expert.policy.act(expert_carry, expert.see(state), key)
        return vectorize.select(control, (new, action), (expert_carry, planned))

    idle = lambda expert_carry: (expert_carry, planned)  # noqa: E731
    expert_carry, action = jax.lax.cond(jnp.any(control), steer, idle, expert_carry)
    state, broke = _zeroed(env.step(state, action))
    broke &= running
    steps = Steps(obs, action, running & ~broke, control & running, state.metrics['success'] > 0)
    history = policies.append(history, state.obs)
    past = jnp.concatenate([past, action[:, None]], axis=1)[:, 1:]
    running = running & ~(state.termination | state.truncation | broke)
    return (state, history, past, expert_carry, running), (steps, broke)


def _zeroed(state: types.EnvState) -> tuple[types.EnvState, jax.Array]:
    """The states, with observations of 0 where a world broke, and where it did, [N].

    Such a world ends its episode. The zeros keep its numbers out of histories, scores and labels.
    """
    broke = auto_reset.broken(state)
    zeros = jax.tree.map(jnp.zeros_like, state.obs)
    return state.replace(obs=vectorize.select(broke, zeros, state.obs)), broke


def ask(
    env: types.Env,
    expert: Expert,
    blocks: Blocks,
    eligible: jax.Array,
    num_queries: int,
    horizons: Horizons,
    key: types.Key,
) -> tuple[types.Chunk, jax.Array]:
    """Labels Q random states among the eligible starts of blocks.

    Args:
      eligible: [B, N] bool, the states that may be labelled.
      num_queries: Q.

    Returns:
      Chunks [Q], and which of them are valid, [Q] bool. The valid ones come first; there are fewer
      than Q if fewer states are eligible. The mask is True on the expert's actions up to the end of
      its episode, or to where its world breaks. It is False on the actions before, which are the
      executed ones, and on those after, which repeat the last action.
    """
    order_key, roll_key = jax.random.split(key)
    priority = jnp.where(eligible, jax.random.uniform(order_key, eligible.shape), -1.0)
    priority, index = jax.lax.top_k(priority.reshape(-1), num_queries)
    flat = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2)[index], blocks)
    state = flat.env_state
    # `explore` has stored the carry to begin with: that of an expert which was already acting, and
    # a fresh one elsewhere.
    carry = (state, flat.expert_carry, flat.reached)

    def step(carry, key):
        state, expert_carry, running = carry
        expert_carry, action, _ = expert.policy.act(expert_carry, expert.see(state), key)
        state = env.step(state, action)
        sound = ~auto_reset.broken(state) & jnp.isfinite(action).all(axis=-1)
        action = jnp.where(sound[:, None], action, jnp.zeros_like(action))
        still = running & ~(state.termination | state.truncation) & sound
        return (state, expert_carry, still), (action, running & sound)

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
