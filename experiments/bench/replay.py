"""Off-policy training for `experiments.bench.rl`: its rate against that of its parts, and a peer.

`measure` times whole rounds, the bare environment for as many steps, and `agent.update` alone for
as many minibatches, in turns. What the slower of the two parts allows is a bound that no loop on
one device reaches if both take time.

`--peer=sb3` trains Stable-Baselines3 with the same numbers on the same task, seed after seed, and
all of our seeds in one program; returns are those of the last policies in fresh episodes.
"""

import time
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.io import workdir
from jaxpolicy.loops import off_policy, rollout
from jaxpolicy.ops import intervals
from jaxpolicy.runs import environment, evaluation, kinds, learner, program

from . import ours, peers

PEERS = ('sb3',)
EVAL_EPISODES = 100


def measure(config: config_dict.ConfigDict, options: Any) -> dict[str, Any]:
    """All figures, as the JSON has them; `options` are `figures.Options`."""
    peer = peers.load(options.peer, PEERS) if options.peer else None
    clocks = {'raw': raw(config), 'update': update(config)}
    contender = ours.start(config, 0)
    begin = time.perf_counter()
    contender.round()
    first_s = time.perf_counter() - begin
    readings: dict[str, list[float]] = {name: [] for name in (*clocks, 'train')}
    for _ in range(options.repeats):
        readings['train'].append(contender.round())
        for name, clock in clocks.items():
            readings[name].append(clock())
    contender.close()
    seconds = {name: float(np.median(found)) for name, found in readings.items()}
    loop = config.loop
    steps = loop.num_envs * loop.rollout_length * loop.iterations_per_round
    updates = loop.num_minibatches * loop.iterations_per_round
    spec = environment.make_env(config).spec
    capacity = loop.buffer_size // loop.num_envs
    result: dict[str, Any] = {
        'compile_s': first_s - seconds['train'],
        'train_steps_per_s': steps / seconds['train'],
        'train_updates_per_s': updates / seconds['train'],
        'raw_steps_per_s': steps / seconds['raw'],
        'raw_updates_per_s': updates / seconds['update'],
        'of_slower_part': max(seconds['raw'], seconds['update']) / seconds['train'],
        'of_both_parts': (seconds['raw'] + seconds['update']) / seconds['train'],
        'buffer_mb': buffer_lib.num_bytes(spec, loop.num_envs, capacity) / 2**20,
    }
    other: dict[str, Any] = {}
    if peer:
        trained, num_env_steps = train_ours(config, options.seeds)
        result |= trained
        other = train_peer(config, peer, num_env_steps, options.seeds)
    return {
        'ours': result,
        'peer': other,
        'ratio': {k: result[k] / other[k] for k in other if k.endswith('_s_per_seed')},
        'not_equal': peer.DIFFERENCES if peer else (),
        'config': config.to_dict(),
        'device': jax.local_devices()[0].device_kind,
        'versions': workdir.versions(),
    }


def raw(config: config_dict.ConfigDict):
    """A clock: seconds for one round's env steps with random actions and with the loop's resets."""
    env, settings = environment.make_env(config), config.loop
    policy = off_policy.random_policy(env.spec)
    length = settings.rollout_length * settings.iterations_per_round

    def init(key: types.Key) -> types.EnvState:
        pool = env.reset(jax.random.split(key, settings.pool_size))
        return auto_reset.auto_reset(env, pool).reset(jax.random.split(key, settings.num_envs))

    def one_round(state: types.EnvState, key: types.Key) -> types.EnvState:
        pool_key, rollout_key = jax.random.split(key)
        pool = env.reset(jax.random.split(pool_key, settings.pool_size))
        resetting = auto_reset.auto_reset(env, pool)
        return rollout.rollout(resetting, policy, state, (), rollout_key, length)[0]

    return ours.repeat(init, one_round)


def update(config: config_dict.ConfigDict):
    """A clock: seconds of `agent.update` for all minibatches of one round, on the same batch."""
    env, settings = environment.make_env(config), config.loop
    agent = learner.make_agent(config, env.spec)
    random = off_policy.random_policy(env.spec)
    shape = (settings.num_minibatches, settings.batch_size)

    def init(key):
        state = env.reset(jax.random.split(key, settings.num_envs))
        _, _, steps, _ = rollout.rollout(env, random, state, (), key, 16)
        buffer = buffer_lib.add(buffer_lib.make(env.spec, settings.num_envs, 16), steps)
        batch = buffer_lib.sample(buffer, key, shape, 1, config.agent.gamma)
        return agent.init(key), batch

    def one_round(carry, key):
        def one(train, key):
            return agent.update(train, carry[1], key)[0], None

        keys = jax.random.split(key, settings.iterations_per_round)
        return jax.lax.scan(one, carry[0], keys)[0], carry[1]

    return ours.repeat(init, one_round)


def train_ours(config: config_dict.ConfigDict, num_seeds: int) -> tuple[dict[str, Any], int]:
    """Trains all seeds in one program; returns the figures, and the env steps of one seed."""
    begin = time.perf_counter()
    run = kinds.make_run(config)
    compiled = program.of_run(run, 0, num_seeds, mesh=None)
    state, ends, num_env_steps = compiled.init(), [], 0
    for _ in range(run.num_rounds):
        state, metrics = compiled.step(state, run.data)
        num_env_steps += int(np.ravel(metrics['env_steps'])[0])  # the same for all seeds
        ends.append(time.perf_counter())
    whole_s = time.perf_counter() - begin
    # The first round compiles, so the rate is that of the others.
    steady_s = float(np.median(np.diff(ends))) * run.num_rounds if len(ends) > 1 else whole_s
    config = _evaluated(config)
    evaluator = evaluation.make(config, num_seeds)
    returns = np.atleast_1d(evaluation.means(config, evaluator, state.train)['eval/return'])
    return _side(whole_s / num_seeds, steady_s / num_seeds, returns), num_env_steps


def train_peer(
    config: config_dict.ConfigDict, peer: Any, num_env_steps: int, num_seeds: int
) -> dict[str, Any]:
    """Trains the peer's seeds one after another for as many env steps; returns the figures."""
    results = [peer.train(config, num_env_steps, seed, EVAL_EPISODES) for seed in range(num_seeds)]
    seconds, returns = (np.array(column) for column in zip(*results, strict=True))
    return _side(float(seconds.mean()), float(seconds.mean()), returns)


def _evaluated(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The config with an evaluation of returns alone, as the peer is evaluated."""
    config = config.copy_and_resolve_references()
    config.eval.num_episodes = EVAL_EPISODES
    config.eval.modes, config.eval.score, config.eval.metrics = ('deterministic',), 'return', ()
    return config


def _side(whole_s: float, steady_s: float, returns: np.ndarray) -> dict[str, Any]:
    mean, low, high = intervals.confidence_interval(returns, 'real')
    return {
        'whole_s_per_seed': whole_s,
        'steady_s_per_seed': steady_s,
        'return': float(mean),
        'return_low': float(low),
        'return_high': float(high),
        'return_by_seed': returns.tolist(),
    }
