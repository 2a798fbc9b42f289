"""Interactive imitation: learn, act, ask the expert about what was met, learn from all of it.

A round is one `step` of the loop:

  1. learn     updates on the demonstrations and on all labels so far, from the beginning (few
               demonstrations are soon learnt by heart) or from where the last round ended;
  2. explore   in N episodes the learner acts alone, which calibrates the gate and counts successes;
               in N others the gate decides at each block of Ta steps who acts (`explore`);
  3. ask       Q of the states in which blocks began are labelled: the expert is rolled forward from
               each, for as long as a chunk is.

So a chunk's target is what the expert would do from there, not what it would say step by step along
the learner's path. Labelled are states in which the expert acts or, with the gate `beta`, any. The
costs are counted: queries are labelled states, expert steps the actions in their labels. What the
last round asks waits for a longer run.

Sources: Ross et al., 2011 (DAgger, arXiv:1011.0686); the gates' in `gates`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import types
from jaxpolicy.agents.parts import risk as risk_lib
from jaxpolicy.data import labels as labels_lib
from jaxpolicy.data import windows
from jaxpolicy.loops.dagger import gates
from jaxpolicy.loops.dagger import turns as explore

PyTree = types.PyTree


@dataclasses.dataclass(frozen=True)
class Config:
    """The numbers of a run."""

    num_rounds: int = 10  # that ask
    num_envs: int = 256  # N, episodes in a round of the learner alone, and as many with the gate
    queries_per_round: int = 256  # Q, at most
    batch_size: int = 256
    first_updates: int = 2000  # before the first round asks
    updates_per_round: int = 500
    restart: bool = True  # each round learns from the beginning, as DAgger does; else it goes on
    label_share: float = 0.5  # of a batch; 0: what labels are of all data
    risk_updates: int = 200  # in a round, where a gate wants to know risks


class Data(struct.PyTreeNode):
    """What a round needs besides its state."""

    demos: windows.Windows
    expert: PyTree  # the expert's weights, or ()


class Memory(struct.PyTreeNode):
    """What a run remembers besides the learner; `LoopState.memory`."""

    round: jax.Array  # [] int32, rounds that have asked
    labels: labels_lib.Labels
    risk: PyTree
    expert_steps: jax.Array  # [] int32
    steps: explore.Steps  # [B, Ta, N, ...], the last round's episodes with the gate
    budget_scale: jax.Array  # [] float32, see `_rescale`


class Parts(NamedTuple):
    """What a loop is made of.

    agent: plans chunks, and remembers nothing between them.
    env: vectorised, with a time limit and the metric 'success', without auto-reset.
    make_expert: from its weights, `Data.expert`.
    risk: for a gate that wants to know it.
    """

    agent: types.Agent
    env: types.Env
    make_expert: Callable[[PyTree], explore.Expert]
    gate: gates.Gate
    risk: risk_lib.Risk | None
    config: Config
    horizons: explore.Horizons
    deterministic: bool = True  # how the learner acts: as it is evaluated


def make(parts: Parts) -> types.Loop:
    """A loop whose `step` takes `Data`."""
    config, horizons, spec = parts.config, parts.horizons, parts.env.spec

    def init(key):
        agent_key, risk_key, loop_key = jax.random.split(key, 3)
        capacity = (config.num_rounds + 1) * config.queries_per_round
        memory = Memory(
            round=jnp.zeros((), jnp.int32),
            labels=labels_lib.make(capacity, _no_chunk(spec, horizons)),
            risk=parts.risk.init(risk_key) if parts.risk else (),
            expert_steps=jnp.zeros((), jnp.int32),
            steps=_no_steps(spec, horizons, config.num_envs),
            budget_scale=jnp.ones(()),
        )
        train = parts.agent.init(agent_key)
        return types.LoopState(train=train, env=(), key=loop_key, memory=memory)

    def step(state, data):
        key, init_key, learn_key, risk_key, explore_key, ask_key = jax.random.split(state.key, 6)
        memory, expert = state.memory, parts.make_expert(data.expert)
        train = parts.agent.init(init_key) if config.restart else state.train
        train, metrics = learn(parts, train, memory, data.demos, learn_key)
        alone, gated = rollouts(parts, train, memory, expert, explore_key)
        blocks, _ = gated
        eligible = blocks.reached if parts.gate.labels_all else blocks.control
        num = config.queries_per_round
        chunks, valid = explore.ask(parts.env, expert, blocks, eligible, num, horizons, ask_key)
        metrics |= _metrics(memory, alone, gated)
        memory = Memory(
            round=memory.round + 1,
            labels=labels_lib.add(memory.labels, chunks, valid),
            risk=_learn_risk(parts, memory.risk, alone, risk_key) if parts.risk else (),
            expert_steps=memory.expert_steps + jnp.sum(chunks.mask, dtype=jnp.int32),
            steps=gated[1],
            budget_scale=_rescale(memory.budget_scale, num, jnp.sum(blocks.control)),
        )
        return state.replace(train=train, key=key, memory=memory), metrics

    return types.Loop(init, step)


def learn(parts: Parts, train, memory: Memory, demos: windows.Windows, key: types.Key):
    """Updates on demonstrations and labels; the train state and the metrics' averages."""
    config = parts.config

    def one(train, key):
        batch_key, update_key = jax.random.split(key)
        size, share = config.batch_size, config.label_share
        batch = labels_lib.sample(demos, memory.labels, batch_key, size, share)
        return parts.agent.update(train, batch, update_key)

    def update(i, carry):
        train, total = carry
        train, metrics = one(train, jax.random.fold_in(key, i))
        return train, jax.tree.map(jnp.add, total, metrics)

    count = jnp.where(memory.round == 0, config.first_updates, config.updates_per_round)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, train, key)[1])
    train, total = jax.lax.fori_loop(0, count, update, (train, zeros))
    return train, jax.tree.map(lambda x: x / jnp.maximum(count, 1), total)


def rollouts(parts: Parts, train, memory: Memory, expert: explore.Expert, key: types.Key):
    """(Blocks, Steps) of the learner alone and, with thresholds from there, of both in turns."""
    config = parts.config

    def phase(thresholds, enabled_and_key):
        enabled, key = enabled_and_key
        reset_key, act_key = jax.random.split(key)
        keys = jax.random.split(reset_key, config.num_envs)
        now = explore.Situation(train, memory.risk, thresholds, enabled, parts.deterministic)
        blocks, steps = explore.explore(
            parts.agent, parts.env, expert, parts.gate, parts.horizons, now, keys, act_key
        )
        queries = memory.budget_scale * config.queries_per_round
        budget = queries / jnp.maximum(jnp.sum(blocks.reached), 1)
        found = parts.gate.threshold(blocks.scores, blocks.reached, budget, memory.round)
        return jnp.where(enabled, thresholds, found), (blocks, steps)

    inputs = (jnp.array([False, True]), jax.random.split(key))
    never = jnp.full((parts.gate.num_kinds,), jnp.inf)
    both = jax.lax.scan(phase, never, inputs)[1]
    return tuple(jax.tree.map(lambda x: x[i], both) for i in (0, 1))


def _rescale(scale: jax.Array, budget: int, taken: jax.Array) -> jax.Array:
    """The budget's factor for the next round, after `taken` blocks were taken over.

    Thresholds are of the learner alone. Helped by the expert it meets fewer such states, and scores
    of two kinds exceed theirs at once; so rounds would spend less than they may. Bounded, as a
    round may take over next to nothing.
    """
    return jnp.clip(scale * budget / jnp.maximum(taken, 1), 0.25, 8.0)


def _metrics(memory: Memory, alone, gated) -> types.Metrics:
    """Of a round: what was paid for it before, and what its policy does."""
    blocks, steps = alone
    success = explore.succeeded(steps)
    predictive = gates.predictive(blocks.scores, blocks.reached, ~success)
    running = jnp.maximum(jnp.sum(gated[1].running), 1)
    return {
        'queries': memory.labels.count.astype(jnp.float32),
        'expert_steps': memory.expert_steps.astype(jnp.float32),
        'success_alone': jnp.mean(success),
        'success_with_expert': jnp.mean(explore.succeeded(gated[1])),
        'intervention_rate': jnp.sum(gated[1].intervention) / running,
        **{f'auroc_{i}': value for i, value in enumerate(predictive)},
    }


def _learn_risk(parts: Parts, state, alone, key):
    """Updates on episodes that the learner has acted out alone."""
    (blocks, steps), config, risk = alone, parts.config, parts.risk
    assert risk is not None
    failed = jnp.broadcast_to(~explore.succeeded(steps), blocks.reached.shape)
    outcomes = risk_lib.Outcomes(
        blocks.chunk.obs, blocks.chunk.action, blocks.chunk.mask, failed, blocks.reached
    )
    outcomes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outcomes)

    def update(state, key):
        index = jax.random.randint(key, (config.batch_size,), 0, len(outcomes.failed))
        return risk.update(state, jax.tree.map(lambda x: x[index], outcomes)), None

    return jax.lax.scan(update, state, jax.random.split(key, config.risk_updates))[0]


def _no_chunk(spec: types.Spec, horizons: explore.Horizons) -> types.Chunk:
    def zeros(s):
        return jnp.zeros((1, horizons.obs, *s.shape), s.dtype)

    action = jnp.zeros((1, horizons.pred, *spec.action.shape))
    mask = jnp.zeros((1, horizons.pred), bool)
    return types.Chunk(jax.tree.map(zeros, spec.obs), action, mask)


def _no_steps(spec: types.Spec, horizons: explore.Horizons, num_envs: int) -> explore.Steps:
    lead = (horizons.num_blocks, horizons.action, num_envs)
    no = jnp.zeros(lead, bool)
    obs = jax.tree.map(lambda s: jnp.zeros((*lead, *s.shape), s.dtype), spec.obs)
    return explore.Steps(obs, jnp.zeros((*lead, *spec.action.shape)), no, no, no)
