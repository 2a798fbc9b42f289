"""Learning from replayed experience: act a little, store the steps, learn from all that is stored.

An iteration is a rollout [T, N] of the exploring policy, which `buffer.add` stores, and one
`agent.update` on U minibatches of B samples, drawn from the buffer and from demonstrations if there
are any. A run begins with random actions. The buffer is part of the state, so that a restored run
continues exactly.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy import ranges, train_state, types
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.envs.wrap import auto_reset, time_limit
from jaxpolicy.loops import rollout

_UNIFORM = ranges.Idle('priority_exponent', (0.0,))


@dataclasses.dataclass(frozen=True)
class Config:
    num_envs: ranges.Count = 16
    rollout_length: ranges.Count = 1  # steps of each environment between two updates
    num_minibatches: ranges.Count = 16  # U; num_envs x rollout_length makes one per env step
    batch_size: ranges.Count = 256  # B, samples in a minibatch
    buffer_size: ranges.Count = 200_000  # transitions; a whole number for each environment
    learning_starts: ranges.CountOrZero = 2_000  # random steps of all environments, at first
    n_step: ranges.Count = 1  # rewards in a return before it bootstraps
    iterations_per_round: ranges.Count = 200  # in one compiled call, which gives one row of metrics
    pool_size: ranges.Count = 64  # fresh starts, drawn anew in each compiled call
    demo_share: ranges.Share = 0.0  # share of each minibatch that is from demonstrations
    hindsight_share: ranges.Share = 0.0  # share of the samples that get another goal
    priority_exponent: ranges.Share = 0.0  # of prioritised replay; 0 draws uniformly
    priority_beta: Annotated[ranges.Share, _UNIFORM] = 0.4  # exponent of its weights; rises to 1
    priority_beta_steps: Annotated[ranges.TotalOrZero, _UNIFORM] = 0  # env steps; 0: the run's own
    buffer_on: Literal['device', 'host'] = 'device'  # 'host': main memory


class Memory(struct.PyTreeNode):
    """The experience so far; the first axis of every leaf is N."""

    buffer: buffer_lib.Buffer
    priority: types.PyTree  # [N, C], or () where samples are uniform


class Parts(NamedTuple):
    """The pure functions that make up a run.

    begin(key) -> (LoopState without a memory, the random rollout of the beginning)
    empty() -> an empty memory
    act(train, env_state, pool, key) -> (train, env_state, rollout [T, N], metrics)
    sample(memory, demonstrations, key) -> (minibatches [U, B], their places in the buffer)
    learn(train, minibatches, key) -> (train, metrics); metrics has td_error [U, B]
    """

    begin: Callable
    empty: Callable
    act: Callable
    sample: Callable
    learn: Callable


def make(
    env: types.Env,
    agent: types.AnyAgent,
    config: Config,
    gamma: float,
    episode_steps: int,
    goals: types.Goals | None = None,
) -> types.Loop:
    """Makes a loop of rollout, add and update; its data is () or a `Buffer` of demonstrations.

    Args:
      env: vectorised and time-limited, without auto-reset, which the loop adds.
      agent: takes minibatches [U, B].
      gamma: the agent's discount, for n-step returns.
      episode_steps: the time limit; the clock of each first episode starts at a random time.
      goals: the goals of the env's observations, for hindsight.
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
        before, env_steps = state.train.step, num_env_steps(config, state.memory.buffer.count)
        state, metrics = jax.lax.scan(
            lambda s, k: iteration(s, k, pool, data), state.replace(key=key), keys
        )
        metrics = rollout.per_episode(jax.tree.map(jnp.mean, metrics))
        done = train_state.progress(before, state.train.step, env_steps)
        return rollout.strong(state), metrics | done

    return types.Loop(init, step)


def make_parts(env, agent, config: Config, gamma: float, episode_steps: int, goals) -> Parts:
    """Makes the parts from which `make` builds its loop, from the same arguments."""
    num_demos = round(config.demo_share * config.batch_size)
    shape = (config.num_minibatches, config.batch_size - num_demos)

    def observe(train, batch):
        return agent.observe(train, batch) if isinstance(agent, types.ReplayAgent) else train

    def begin(key):
        agent_key, begin_key, loop_key = jax.random.split(key, 3)
        env_state, batch = at_random(env, config, episode_steps, begin_key)
        train = agent.init(agent_key)
        types.check_memoryless(agent.policy(train).init(env_state.obs), 'loop off_policy')
        train = observe(train, batch)
        return rollout.strong(types.LoopState(train, env_state, loop_key)), batch

    def empty():
        capacity = config.buffer_size // config.num_envs
        priority = _priorities().make(config.num_envs, capacity) if config.priority_exponent else ()
        return Memory(buffer_lib.make(env.spec, config.num_envs, capacity), priority)

    def act(train, env_state, pool, key):
        resetting, policy = auto_reset.auto_reset(env, pool), agent.policy(train)
        length = config.rollout_length
        env_state, _, batch, found = rollout.rollout(resetting, policy, env_state, (), key, length)
        return observe(train, batch), env_state, batch, rollout.summarize(batch, found)

    def sample(memory, demos, key):
        place_key, goal_key, demo_key = jax.random.split(key, 3)
        buffer, weight = memory.buffer, None
        if config.priority_exponent:
            beta, of = config.priority_beta, config.priority_beta_steps
            if of:
                taken = buffer.count[0] * float(config.num_envs)
                beta = _priorities().annealed(beta, taken, of)
            exponents = (config.priority_exponent, beta)
            places, weight = _priorities().draw(
                memory.priority, buffer, place_key, shape, config.n_step, *exponents
            )
        else:
            places = buffer_lib.draw(buffer, place_key, shape, config.n_step)
        steps = buffer_lib.follow(buffer, places, config.n_step)
        if goals is not None and config.hindsight_share:
            from jaxpolicy.data import hindsight  # imported here, as few runs need it

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
    """Draws the key of the next step, a pool of fresh starts and a key for each iteration."""
    key, pool_key, step_key = jax.random.split(key, 3)
    pool = env.reset(jax.random.split(pool_key, config.pool_size))
    return key, pool, jax.random.split(step_key, config.iterations_per_round)


def prioritise(memory: Memory, places: buffer_lib.Places, td_error: jax.Array) -> Memory:
    """Sets the priorities at these places from the critic's errors there, if it has priorities."""
    if not isinstance(memory.priority, jax.Array):
        return memory
    return memory.replace(priority=_priorities().update(memory.priority, places, td_error))


def at_random(
    env: types.Env, config: Config, episode_steps: int, key: types.Key
) -> tuple[types.EnvState, types.Transition]:
    """Takes the random steps at the beginning of a run.

    Returns:
      The state after them, and the steps [T, N].
    """
    pool_key, reset_key, phase_key, rollout_key = jax.random.split(key, 4)
    resetting = auto_reset.auto_reset(env, env.reset(jax.random.split(pool_key, config.pool_size)))
    env_state = resetting.reset(jax.random.split(reset_key, config.num_envs))
    env_state = time_limit.random_phase(env_state, phase_key, episode_steps)
    policy, length = random_policy(env.spec), num_random_steps(config)
    env_state, _, batch, _ = rollout.rollout(resetting, policy, env_state, (), rollout_key, length)
    return env_state, batch


def store(memory: Memory, batch: types.Transition) -> Memory:
    """Adds a rollout [T, N] to the memory."""
    buffer, priority = buffer_lib.add(memory.buffer, batch), memory.priority
    if isinstance(priority, jax.Array):
        priority = _priorities().add(priority, buffer, len(batch.reward))
    return Memory(buffer, priority)


def num_random_steps(config: Config) -> int:
    """Random steps of each environment before the first update; at least n for n-step samples."""
    return max(-(-config.learning_starts // config.num_envs), config.n_step)


def num_env_steps(config: Config, count: jax.Array) -> jax.Array:
    """Environment steps of one call of `step`; the first call counts the random steps as well.

    Args:
      count: [N], steps in the buffer before the call. Only before the first call it equals the
        number of random steps.
    """
    usual = config.num_envs * config.rollout_length * config.iterations_per_round
    random = num_random_steps(config)
    return jnp.where(jnp.asarray(count)[0] == random, usual + config.num_envs * random, usual)


def random_policy(spec: types.Spec) -> types.Policy:
    """A policy that draws its actions uniformly."""

    def act(carry, obs, key):
        num = jax.tree.leaves(obs)[0].shape[0]
        if types.is_discrete(spec):
            choice = jax.random.randint(key, (num,), 0, spec.action.shape[0])
            return carry, jax.nn.one_hot(choice, spec.action.shape[0], dtype=spec.action.dtype), {}
        shape = (num, *spec.action.shape)
        return carry, jax.random.uniform(key, shape, spec.action.dtype, -1.0, 1.0), {}

    return types.Policy(lambda obs: (), act)


def _priorities() -> Any:
    """The module of prioritised replay, which few runs need."""
    from jaxpolicy.data import priorities

    return priorities
