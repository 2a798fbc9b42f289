"""Interactive imitation: the learner learns, acts, and asks the expert about states that it met.

A round is one `step` of the loop:

  1. learn     The agent is updated on demonstrations and all labels so far, from scratch (it soon
               learns few demonstrations by heart) or from where the last round ended.
  2. explore   In N episodes the learner acts alone, which calibrates the gate and counts successes.
               In N other episodes the gate decides at each block of Ta steps who acts (`explore`).
  3. ask       Q of the states in which blocks began are labelled: the expert is rolled forward from
               each of them for the length of a chunk.

So a chunk's target is what the expert would do from that state on, and not what it would advise at
each step along the learner's path. With the gate `beta` any such state may be labelled, with the
other gates only those where the expert took over. The costs are counted: a query is one labelled
state, expert steps are the actions in the labels. The labels of a run's last round are learnt from
only if the run is continued.

Source: Ross et al., 2011 (DAgger, arXiv:1011.0686); `gates` names those of the gates.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import risk as risk_lib
from jaxpolicy.data import aggregate as labels_lib
from jaxpolicy.data import windows
from jaxpolicy.loops.dagger import gates
from jaxpolicy.loops.dagger import turns as explore

PyTree = types.PyTree


@dataclasses.dataclass(frozen=True)
class Config:
    """The hyper-parameters of a run."""

    num_rounds: ranges.Count = 10  # rounds that ask
    num_envs: ranges.Count = 256  # N, episodes of a round alone; as many with the gate
    queries_per_round: ranges.Count = 256  # Q, the most states that are labelled in a round
    batch_size: ranges.Count = 256
    first_updates: ranges.CountOrZero = 2000  # updates in the first round, before it asks
    updates_per_round: ranges.Count = 500
    restart: bool = True  # each round learns from scratch, as in DAgger; else it goes on
    label_share: ranges.Share = 0.5  # share of labels in a batch; 0: their share of all the data
    # Updates of the risk in a round, for the gate of `runs.dagger.Settings` that uses it.
    risk_updates: Annotated[ranges.Count, ranges.Idle('gate', ('beta', 'expert', 'surprise'))] = 200


class Data(struct.PyTreeNode):
    """What a round needs besides its state."""

    demos: windows.Windows
    expert: PyTree  # the expert's weights, or () for a scripted one


class Memory(struct.PyTreeNode):
    """What a run remembers besides the learner; it is the `memory` of a `LoopState`."""

    round: jax.Array  # [] int32, rounds that have asked
    labels: labels_lib.Labels
    risk: PyTree
    expert_steps: jax.Array  # [] int32
    steps: explore.Steps  # [B, Ta, N, ...], the gated episodes of the last round
    budget_scale: jax.Array  # [] float32, see `_rescale`


class Parts(NamedTuple):
    """What a loop is made of.

    agent: its policy is a planner that remembers nothing between two chunks.
    env: vectorised, with a time limit and the metric 'success', without auto-reset.
    make_expert: builds the expert from its weights, `Data.expert`.
    risk: predicts failures for a gate that uses the risk, else None.
    """

    agent: types.AnyAgent
    env: types.Env
    make_expert: Callable[[PyTree], explore.Expert]
    gate: gates.Gate
    risk: risk_lib.Risk | None
    config: Config
    horizons: explore.Horizons
    deterministic: bool = True  # True: the learner acts as in evaluation; False: as it explores


def make(parts: Parts) -> types.Loop:
    """Makes the loop, whose `step` takes `Data`."""
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
        before = train.step
        train, metrics = learn(parts, train, memory, data.demos, learn_key)
        alone, gated = rollouts(parts, train, memory, expert, explore_key)
        blocks, _ = gated
        eligible = blocks.reached if parts.gate.labels_all else blocks.control
        num = config.queries_per_round
        chunks, valid = explore.ask(parts.env, expert, blocks, eligible, num, horizons, ask_key)
        metrics |= _metrics(memory, alone, gated)
        metrics |= train_state.progress(before, train.step, num_env_steps(config, horizons))
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


def num_env_steps(config: Config, horizons: explore.Horizons) -> int:
    """Environment steps of a round: those of both kinds of episodes and of the expert's labels."""
    episodes = 2 * config.num_envs * horizons.num_blocks * horizons.action
    return episodes + config.queries_per_round * (horizons.pred - horizons.obs + 1)


def learn(parts: Parts, train, memory: Memory, demos: windows.Windows, key: types.Key):
    """Updates the agent on demonstrations and labels; returns it and the averaged metrics."""
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
    """Runs N episodes of the learner alone, then N episodes of learner and expert in turns.

    The first episodes set the thresholds that the gate uses in the second ones.

    Returns:
      (Blocks, Steps) of the first episodes and (Blocks, Steps) of the second ones.
    """
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
    """The factor on the next round's budget, after the expert took `taken` blocks over.

    The thresholds come from episodes of the learner alone. With the expert's help it meets fewer
    states above them, and one block may exceed the thresholds of two kinds at once. So fewer blocks
    are taken over than the budget allows. In some rounds it is almost none: hence the bounds.
    """
    return jnp.clip(scale * budget / jnp.maximum(taken, 1), 0.25, 8.0)


def _metrics(memory: Memory, alone, gated) -> types.Metrics:
    """The metrics of a round: the costs before it, and how well its policy does."""
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
        'nan_worlds': jnp.sum(blocks.broke, dtype=jnp.float32) + jnp.sum(gated[0].broke),
        **{f'auroc_{i}': value for i, value in enumerate(predictive)},
    }


def _learn_risk(parts: Parts, state, alone, key):
    """Updates the risk on the episodes that the learner acted alone."""
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

    action = jnp.zeros((1, horizons.pred, *spec.action.shape), spec.action.dtype)
    mask = jnp.zeros((1, horizons.pred), bool)
    return types.Chunk(jax.tree.map(zeros, spec.obs), action, mask)


def _no_steps(spec: types.Spec, horizons: explore.Horizons, num_envs: int) -> explore.Steps:
    lead = (horizons.num_blocks, horizons.action, num_envs)
    no = jnp.zeros(lead, bool)
    obs = jax.tree.map(lambda s: jnp.zeros((*lead, *s.shape), s.dtype), spec.obs)
    action = jnp.zeros((*lead, *spec.action.shape), spec.action.dtype)
    return explore.Steps(obs, action, no, no, no)
