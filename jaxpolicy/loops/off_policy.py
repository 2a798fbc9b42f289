"""Learning from replayed experience: act a little, store, learn from samples of all of it.

An iteration is a rollout [T, N] of the exploring policy, `buffer.add`, and one `agent.update` on U
minibatches of B samples, from the buffer and, where there are any, from demonstrations. The buffer
is part of the state, and so a run continues exactly. It begins with random actions.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import types
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import hindsight, priorities
from jaxpolicy.envs.wrap import auto_reset, time_limit
from jaxpolicy.loops import on_policy, policies, rollout


@dataclasses.dataclass(frozen=True)
class Config:
    num_envs: int = 16
    rollout_length: int = 1  # steps of each environment between two updates
    num_minibatches: int = 16  # in an update; num_envs x rollout_length: one for each step
    batch_size: int = 256  # of a minibatch
    buffer_size: int = 200_000  # transitions; rounded down to a whole number for each environment
    learning_starts: int = 2_000  # steps of all environments that are random, before the first
    n_step: int = 1  # steps of a return before it bootstraps
    iterations_per_round: int = 200  # in one compiled call, one row of metrics
    pool_size: int = 64  # fresh starts, drawn anew in each compiled call
    demo_share: float = 0.0  # of each minibatch, from the demonstrations
    hindsight_share: float = 0.0  # of the samples that get another goal
    priority_exponent: float = 0.0  # of prioritised replay; 0: uniform
    priority_beta: float = 0.4  # of its importance weights
    buffer_on: str = 'device'  # or 'host': in main memory, where the device's is too small


class Memory(struct.PyTreeNode):
    """The experience so far; every leaf leads with N."""

    buffer: buffer_lib.Buffer
    priority: types.PyTree  # [N, C], or () for uniform samples


class Parts(NamedTuple):
    """What an iteration consists of; pure functions.

    begin(key) -> (LoopState without a memory, the random rollout that it begins with)
    empty() -> a memory of nothing
    act(train, env_state, pool, key) -> (train, env_state, rollout [T, N], metrics)
    sample(memory, demonstrations, key) -> (minibatches [U, B], where they come from)
    learn(train, minibatches, key) -> (train, metrics); metrics has td_error [U, B]
    """

    begin: Callable
    empty: Callable
    act: Callable
    sample: Callable
    learn: Callable


def make(
    env: types.Env,
    agent: types.Agent,
    config: Config,
    gamma: float,
    episode_steps: int,
    goals: types.Goals | None = None,
) -> types.Loop:
    """A loop of rollout, add, update. Its data is () or a `Buffer` of demonstrations.

    Args:
      env: vectorised and time-limited, not auto-resetting: the loop adds that.
      agent: takes minibatches [U, B].
      gamma: the agent's discount, for n-step returns.
      episode_steps: the time limit; first episodes start at a random phase of it.
      goals: of the env, for hindsight.
    """
    parts = make_parts(env, agent, config, gamma, episode_steps, goals)

    def init(key):
        state, batch = parts.begin(key)
        return state.replace(memory=store(parts.empty(), batch))

    def iteration(state, key, pool, data):
        act_key, sample_key, learn_key = jax.random.split(key, 3)
        train, env_state, batch, metrics = parts.act(state.train, state.env, pool, act_key)
        memory = store(state.memory, batch)
        batch, places = parts.sample(memory, data, sample_key)
        train, learnt = parts.learn(train, batch, learn_key)
        memory = prioritise(memory, places, learnt.pop('td_error'))
        return state.replace(train=train, env=env_state, memory=memory), metrics | learnt

    def step(state, data):
        key, pool, keys = begin_step(env, config, state.key)
        state, metrics = jax.lax.scan(
            lambda s, k: iteration(s, k, pool, data), state.replace(key=key), keys
        )
        metrics = jax.tree.map(jnp.mean, metrics)
        return on_policy.strong(state), on_policy.per_episode(metrics)

    return types.Loop(init, step)


def make_parts(env, agent, config: Config, gamma: float, episode_steps: int, goals) -> Parts:
    """The parts of `make`, which says what the arguments are."""
    num_demos = round(config.demo_share * config.batch_size)
    shape = (config.num_minibatches, config.batch_size - num_demos)

    def begin(key):
        agent_key, begin_key, loop_key = jax.random.split(key, 3)
        env_state, batch = at_random(env, config, episode_steps, begin_key)
        train = agent.observe(agent.init(agent_key), batch)
        return on_policy.strong(types.LoopState(train, env_state, loop_key)), batch

    def empty():
        capacity = config.buffer_size // config.num_envs
        priority = priorities.make(config.num_envs, capacity) if config.priority_exponent else ()
        return Memory(buffer_lib.make(env.spec, config.num_envs, capacity), priority)

    def act(train, env_state, pool, key):
        resetting, policy = auto_reset.auto_reset(env, pool), policies.memoryless(agent, train)
        length = config.rollout_length
        env_state, _, batch, found = rollout.rollout(resetting, policy, env_state, (), key, length)
        return agent.observe(train, batch), env_state, batch, on_policy.summarize(batch, found)

    def sample(memory, demos, key):
        place_key, goal_key, demo_key = jax.random.split(key, 3)
        buffer, weight = memory.buffer, None
        if config.priority_exponent:
            exponents = (config.priority_exponent, config.priority_beta)
            places, weight = priorities.draw(
                memory.priority, buffer, place_key, shape, config.n_step, *exponents
            )
        else:
            places = buffer_lib.draw(buffer, place_key, shape, config.n_step)
        steps = buffer_lib.follow(buffer, places, config.n_step)
        if goals is not None and config.hindsight_share:
            share = config.hindsight_share
            steps = hindsight.relabel(buffer, places, steps, goal_key, goals, share, episode_steps)
        batch = buffer_lib.n_step(steps, gamma)
        if weight is not None:
            batch = batch.replace(extras={**batch.extras, 'weight': weight})
        if num_demos:
            lengths = (config.num_minibatches, num_demos)
            shown = buffer_lib.sample(demos, demo_key, lengths, config.n_step, gamma)
            batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), batch, shown)
        return batch, places

    return Parts(begin, empty, act, sample, agent.update)


def begin_step(env: types.Env, config: Config, key: types.Key):
    """(the next step's key, a pool of fresh starts, a key for each iteration)."""
    key, pool_key, step_key = jax.random.split(key, 3)
    pool = env.reset(jax.random.split(pool_key, config.pool_size))
    return key, pool, jax.random.split(step_key, config.iterations_per_round)


def prioritise(memory: Memory, places: buffer_lib.Places, td_error: jax.Array) -> Memory:
    """The memory after the critic's errors at these places were seen."""
    if not isinstance(memory.priority, jax.Array):
        return memory
    return memory.replace(priority=priorities.update(memory.priority, places, td_error))


def at_random(
    env: types.Env, config: Config, episode_steps: int, key: types.Key
) -> tuple[types.EnvState, types.Transition]:
    """The random beginning: the state after it and its steps [T, N]."""
    pool_key, reset_key, phase_key, rollout_key = jax.random.split(key, 4)
    resetting = auto_reset.auto_reset(env, env.reset(jax.random.split(pool_key, config.pool_size)))
    env_state = resetting.reset(jax.random.split(reset_key, config.num_envs))
    env_state = time_limit.random_phase(env_state, phase_key, episode_steps)
    policy, length = random_policy(env.spec), num_random_steps(config)
    env_state, _, batch, _ = rollout.rollout(resetting, policy, env_state, (), rollout_key, length)
    return env_state, batch


def store(memory: Memory, batch: types.Transition) -> Memory:
    """The memory with a rollout [T, N] in it."""
    buffer, priority = buffer_lib.add(memory.buffer, batch), memory.priority
    if isinstance(priority, jax.Array):
        priority = priorities.add(priority, buffer, len(batch.reward))
    return Memory(buffer, priority)


def num_random_steps(config: Config) -> int:
    """Random steps of each environment before the first update; n-step samples need n of them."""
    return max(-(-config.learning_starts // config.num_envs), config.n_step)


def random_policy(spec: types.Spec) -> types.Policy:
    """Actions drawn uniformly."""

    def act(carry, obs, key):
        num = jax.tree.leaves(obs)[0].shape[0]
        if types.is_discrete(spec):
            choice = jax.random.randint(key, (num,), 0, spec.action.shape[0])
            return carry, jax.nn.one_hot(choice, spec.action.shape[0], dtype=spec.action.dtype), {}
        shape = (num, *spec.action.shape)
        return carry, jax.random.uniform(key, shape, spec.action.dtype, -1.0, 1.0), {}

    return types.Policy(lambda obs: (), act)
