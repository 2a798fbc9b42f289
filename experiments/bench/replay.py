"""Off-policy training for `experiments.bench.rl`: its rate against that of its parts, and a peer.

`measure` times whole epochs, the bare environment for as many steps, and `agent.update` alone for
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

from experiments.bench import ours as bench_ours
from jaxpolicy import types
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.io import workdir
from jaxpolicy.loops import evaluate, off_policy, rollout
from jaxpolicy.runs import build, evaluation, program
from jaxpolicy.runs import kinds as runs

EVAL_EPISODES = 100


def measure(config: config_dict.ConfigDict, options: Any) -> dict[str, Any]:
    """All figures, as the JSON has them; `options` are those of bench_figures."""
    clocks = {'raw': raw(config), 'update': update(config)}
    contender = bench_ours.start(config, 0)
    begin = time.perf_counter()
    contender.epoch()
    first_s = time.perf_counter() - begin
    readings: dict[str, list[float]] = {name: [] for name in (*clocks, 'train')}
    for _ in range(options.repeats):
        readings['train'].append(contender.epoch())
        for name, clock in clocks.items():
            readings[name].append(clock())
    contender.close()
    seconds = {name: float(np.median(found)) for name, found in readings.items()}
    loop = config.loop
    steps = loop.num_envs * loop.rollout_length * loop.iterations_per_round
    updates = loop.num_minibatches * loop.iterations_per_round
    spec = build.make_env(config).spec
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
    peer: dict[str, Any] = {}
    if options.peer:
        result |= ours(config, options.seeds)
        peer = theirs(config, options)
    return {
        'ours': result,
        'peer': peer,
        'ratio': {k: result[k] / peer[k] for k in peer if k.endswith('_s_per_seed')},
        'not_equal': build.choose('peer', peers(), options.peer).DIFFERENCES if peer else (),
        'config': config.to_dict(),
        'device': jax.local_devices()[0].device_kind,
        'versions': workdir.versions(),
    }


def peers() -> dict[str, Any]:
    """The peers by name; imported here, as they need the extra `bench`."""
    from experiments.bench.peers import sb3 as bench_sb3

    return {'sb3': bench_sb3}


def raw(config: config_dict.ConfigDict):
    """A clock of the env steps of one epoch with random actions, and with the loop's resets."""
    env, settings = build.make_env(config), config.loop
    policy = off_policy.random_policy(env.spec)
    length = settings.rollout_length * settings.iterations_per_round

    def init(key: types.Key) -> types.EnvState:
        pool = env.reset(jax.random.split(key, settings.pool_size))
        return auto_reset.auto_reset(env, pool).reset(jax.random.split(key, settings.num_envs))

    def epoch(state: types.EnvState, key: types.Key) -> types.EnvState:
        pool_key, rollout_key = jax.random.split(key)
        pool = env.reset(jax.random.split(pool_key, settings.pool_size))
        resetting = auto_reset.auto_reset(env, pool)
        return rollout.rollout(resetting, policy, state, (), rollout_key, length)[0]

    return bench_ours.repeat(init, epoch)


def update(config: config_dict.ConfigDict):
    """A clock of `agent.update` for all minibatches of one epoch, on a batch that stays."""
    env, settings = build.make_env(config), config.loop
    agent = build.make_agent(config, env.spec)
    random = off_policy.random_policy(env.spec)
    shape = (settings.num_minibatches, settings.batch_size)

    def init(key):
        state = env.reset(jax.random.split(key, settings.num_envs))
        _, _, steps, _ = rollout.rollout(env, random, state, (), key, 16)
        buffer = buffer_lib.add(buffer_lib.make(env.spec, settings.num_envs, 16), steps)
        batch = buffer_lib.sample(buffer, key, shape, 1, config.agent.gamma)
        return agent.init(key), batch

    def epoch(carry, key):
        def one(train, key):
            return agent.update(train, carry[1], key)[0], None

        keys = jax.random.split(key, settings.iterations_per_round)
        return jax.lax.scan(one, carry[0], keys)[0], carry[1]

    return bench_ours.repeat(init, epoch)


def ours(config: config_dict.ConfigDict, seeds: int) -> dict[str, Any]:
    """All seeds in one program, to the end: seconds and returns."""
    begin = time.perf_counter()
    run = runs.make_run(config)
    compiled = program.make(run.loop, 0, seeds)
    state, ends = compiled.init(), []
    for _ in range(run.num_steps):
        state, metrics = compiled.step(state, run.data)
        jax.block_until_ready(metrics)
        ends.append(time.perf_counter())
    whole = time.perf_counter() - begin
    # the first call compiles; it costs as much as the others besides
    steady = float(np.median(np.diff(ends))) * run.num_steps if len(ends) > 1 else whole
    evaluator = evaluation.make(_evaluated(config), seeds, None)
    found = evaluation.means(_evaluated(config), evaluator, state.train)
    returns = np.atleast_1d(found['eval/return'])
    return _side(whole / seeds, steady / seeds, returns)


def theirs(config: config_dict.ConfigDict, options: Any) -> dict[str, Any]:
    """The peer's seeds one after another."""
    side = build.choose('peer', peers(), options.peer)
    run = runs.make_run(config)
    results = [
        side.train(config, run.env_steps(run.num_steps), seed, EVAL_EPISODES)
        for seed in range(options.seeds)
    ]
    seconds = float(np.mean([found[0] for found in results]))
    return _side(seconds, seconds, np.array([found[1] for found in results]))


def _evaluated(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    config = config.copy_and_resolve_references()
    config.eval.num_episodes = EVAL_EPISODES
    return config


def _side(whole_s: float, steady_s: float, returns: np.ndarray) -> dict[str, Any]:
    mean, low, high = evaluate.confidence_interval(returns, 'real')
    return {
        'whole_s_per_seed': whole_s,
        'steady_s_per_seed': steady_s,
        'return': float(mean),
        'return_low': float(low),
        'return_high': float(high),
        'return_by_seed': returns.tolist(),
    }
