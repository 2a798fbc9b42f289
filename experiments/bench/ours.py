"""Our side of `experiments.bench.rl`: training, and the bare environment, epoch by epoch."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.loops import policies, rollout
from jaxpolicy.runs import build, program
from jaxpolicy.runs import kinds as runs

PyTree = Any


class Contender(NamedTuple):
    """A training run that waits between two epochs.

    epoch() -> seconds that it took; an epoch is `loop.iterations_per_round` rollouts and updates
    policy() -> what `act` needs of the present state
    act(policy, obs [N, ...]) -> action [N, A], the mode of the policy
    close() ends the run
    """

    epoch: Callable[[], float]
    policy: Callable[[], PyTree]
    act: Callable[[PyTree, PyTree], jax.Array]
    close: Callable[[], None]


def start(config: config_dict.ConfigDict, seed: int) -> Contender:
    """A run from scratch; its first epoch compiles."""
    run = runs.make_run(config)
    compiled = program.make(run.loop, seed, num_seeds=1)
    agent = build.make_agent(config, run.spec)
    states = [compiled.init()]

    def epoch() -> float:
        begin = time.perf_counter()
        state, metrics = compiled.step(states.pop(), run.data)
        jax.block_until_ready((state, metrics))
        states.append(state)
        return time.perf_counter() - begin

    def act(train: PyTree, obs: PyTree) -> jax.Array:
        return agent.act(train, obs, jax.random.key(0), deterministic=True)[0]

    return Contender(epoch, lambda: states[-1].train, act, states.clear)


def raw(config: config_dict.ConfigDict) -> Callable[[], float]:
    """Seconds for the env steps of one epoch with random actions, and with the loop's resets."""
    env, num_envs = build.make_env(config), config.loop.num_envs

    def one_rollout(state: types.EnvState, key: types.Key) -> types.EnvState:
        pool_key, action_key = jax.random.split(key)
        pool = env.reset(jax.random.split(pool_key, num_envs))
        resetting = auto_reset.auto_reset(env, pool)

        def step(state, key):
            action = jax.random.uniform(key, (num_envs, *env.spec.action.shape), minval=-1)
            return resetting.step(state, action), None

        keys = jax.random.split(action_key, config.loop.rollout_length)
        return jax.lax.scan(step, state, keys)[0]

    def init(key: types.Key) -> types.EnvState:
        keys = jax.random.split(key, num_envs)
        return auto_reset.auto_reset(env, env.reset(keys)).reset(keys)

    def epoch(state: types.EnvState, key: types.Key) -> types.EnvState:
        keys = jax.random.split(key, config.loop.iterations_per_round)
        return jax.lax.scan(lambda s, k: (one_rollout(s, k), None), state, keys)[0]

    return repeat(init, epoch)


def repeat(init: Callable, epoch: Callable) -> Callable[[], float]:
    """Seconds of one more compiled `epoch(state, key) -> state`; the state is carried on.

    Args:
      init: key -> state.
    """
    state = jax.jit(init)(jax.random.key(0))
    step = jax.jit(epoch, donate_argnums=0)
    states = [step(state, jax.random.key(1))]

    def again() -> float:
        jax.block_until_ready(states)
        begin = time.perf_counter()
        states.append(jax.block_until_ready(step(states.pop(), jax.random.key(2))))
        return time.perf_counter() - begin

    again()  # a state that has weak types after its first step compiles once more
    return again


def update(config: config_dict.ConfigDict) -> Callable[[], float]:
    """Seconds of `agent.update` on an invented rollout, for all updates of one epoch."""
    env, loop = build.make_env(config), config.loop
    agent = build.make_agent(config, env.spec)

    def collect(key):
        keys = jax.random.split(key, loop.num_envs)
        env_state, train = env.reset(keys), agent.init(key)
        memory, policy = agent.memory(env_state.obs), policies.of(agent, train)
        return rollout.rollout(env, policy, env_state, memory, key, loop.rollout_length)[2]

    def init(key):
        shapes, structure = jax.tree.flatten(jax.eval_shape(collect, key))
        keys = jax.random.split(key, len(shapes))
        batch = structure.unflatten(_invent(s, k) for s, k in zip(shapes, keys, strict=True))
        valid = jnp.ones_like(batch.reward)
        return agent.init(key), batch.replace(extras=batch.extras | {'valid': valid})

    def epoch(carry, key):
        def one(state, key):
            return agent.update(state, carry[1], key)[0], None

        state, _ = jax.lax.scan(one, carry[0], jax.random.split(key, loop.iterations_per_round))
        return state, carry[1]

    return repeat(init, epoch)


def _invent(shape: jax.ShapeDtypeStruct, key: types.Key) -> jax.Array:
    if jnp.issubdtype(shape.dtype, jnp.floating):
        return 0.1 * jax.random.normal(key, shape.shape, shape.dtype)
    return jnp.zeros(shape.shape, shape.dtype)
