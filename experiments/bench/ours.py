"""Our side of `experiments.bench.rl`: training, and the bare environment, round by round."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.loops import rollout
from jaxpolicy.runs import compiling, environment, kinds, learner, program

PyTree = types.PyTree


class Contender(NamedTuple):
    """A training run that waits between two rounds.

    round() -> seconds that it took; a round is `loop.iterations_per_round` rollouts and updates.
    weights() -> what `policy_of` needs of the present state.
    policy_of(weights) -> the policy, which acts by its mode.
    close() ends the run.
    """

    round: Callable[[], float]
    weights: Callable[[], PyTree]
    policy_of: Callable[[PyTree], types.Policy]
    close: Callable[[], None]


def start(config: config_dict.ConfigDict, seed: int) -> Contender:
    """A run from scratch; its first round compiles."""
    run = kinds.make_run(config)
    compiled = program.of_run(run, seed, num_seeds=1, mesh=None)
    if compiled.jitted:  # beside each other, as training compiles them
        with compiling.Compiler() as compiler:
            compiler.add('init', compiling.Task(compiled.jitted['init'], compiled.first))
            task = compiling.Task(compiled.jitted['step'], (compiled.template, run.data))
            compiler.add('step', task)
    make_policy = learner.make_policy(config, learner.make_agent(config, run.spec))
    states = [compiled.init()]

    def one_round() -> float:
        begin = time.perf_counter()
        state, metrics = compiled.step(states.pop(), run.data)
        jax.block_until_ready((state, metrics))
        states.append(state)
        return time.perf_counter() - begin

    def policy_of(train: PyTree) -> types.Policy:
        return make_policy(train, True)

    return Contender(one_round, lambda: states[-1].train, policy_of, states.clear)


def raw(config: config_dict.ConfigDict) -> Callable[[], float]:
    """A clock: seconds for one round's env steps with random actions and with the loop's resets."""
    env, num_envs = environment.make_env(config), config.loop.num_envs

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

    def one_round(state: types.EnvState, key: types.Key) -> types.EnvState:
        keys = jax.random.split(key, config.loop.iterations_per_round)
        return jax.lax.scan(lambda s, k: (one_rollout(s, k), None), state, keys)[0]

    return repeat(init, one_round)


def repeat(init: Callable, one_round: Callable) -> Callable[[], float]:
    """A clock: seconds of one more compiled `one_round(state, key) -> state` with each call.

    The state is carried on from call to call.

    Args:
      init: key -> state.
    """
    state = jax.jit(init)(jax.random.key(0))
    step = jax.jit(one_round, donate_argnums=0)
    states = [step(state, jax.random.key(1))]

    def again() -> float:
        jax.block_until_ready(states)
        begin = time.perf_counter()
        states.append(jax.block_until_ready(step(states.pop(), jax.random.key(2))))
        return time.perf_counter() - begin

    again()  # a state that has weak types after its first step compiles once more
    return again


def update(config: config_dict.ConfigDict) -> Callable[[], float]:
    """A clock: seconds of `agent.update` on an invented rollout, for all iterations of a round."""
    env, loop = environment.make_env(config), config.loop
    agent = learner.make_agent(config, env.spec)
    make_policy = learner.make_policy(config, agent)

    def collect(key):
        keys = jax.random.split(key, loop.num_envs)
        env_state, policy = env.reset(keys), make_policy(agent.init(key), False)
        carry = policy.init(env_state.obs)
        return rollout.rollout(env, policy, env_state, carry, key, loop.rollout_length)[2]

    def init(key):
        shapes, structure = jax.tree.flatten(jax.eval_shape(collect, key))
        keys = jax.random.split(key, len(shapes))
        batch = structure.unflatten(_invent(s, k) for s, k in zip(shapes, keys, strict=True))
        valid = jnp.ones_like(batch.reward)
        return agent.init(key), batch.replace(extras=batch.extras | {'valid': valid})

    def one_round(carry, key):
        def one(state, key):
            return agent.update(state, carry[1], key)[0], None

        state, _ = jax.lax.scan(one, carry[0], jax.random.split(key, loop.iterations_per_round))
        return state, carry[1]

    return repeat(init, one_round)


def _invent(shape: jax.ShapeDtypeStruct, key: types.Key) -> jax.Array:
    if jnp.issubdtype(shape.dtype, jnp.floating):
        return 0.1 * jax.random.normal(key, shape.shape, shape.dtype)
    return jnp.zeros(shape.shape, shape.dtype)
