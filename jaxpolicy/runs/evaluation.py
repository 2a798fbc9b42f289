"""From a config to the evaluation of a trained agent."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import envs, sharding, types
from jaxpolicy.envs.wrap import disturb
from jaxpolicy.io import video
from jaxpolicy.loops import evaluate, policies
from jaxpolicy.runs import build

PyTree = Any

MODES = {'deterministic': True, 'stochastic': False}


class Evaluation(NamedTuple):
    """A trained agent in its environment.

        template: what `checkpoint.restore_train` needs.
        episodes(train, num_episodes, first_seed, mode) -> {name: [num_episodes]}, or, with several
          seeds, [S, num_episodes]; mode: 'deterministic' or 'stochastic'
        frames(train, seed) -> uint8 [T, H, W, 3], one episode (of the first seed's agent)
        policy(train) -> Policy, of one seed's agent
      fps: frames per second of simulated time
    spec: of the environment
    """

    template: PyTree
    episodes: Callable[[PyTree, int, int, str], dict[str, np.ndarray]]
    frames: Callable[[PyTree, int], np.ndarray]
    policy: Callable[[PyTree], types.Policy]
    fps: float
    spec: types.Spec


def is_deterministic(config: config_dict.ConfigDict) -> bool:
    """Whether the policy that counts acts deterministically; raises a ValueError for no mode."""
    for mode in config.eval.modes:
        build.choose('eval.modes', MODES, mode)
    if not config.eval.modes:
        raise ValueError(f'config.eval.modes: expected some of {sorted(MODES)}, found none')
    return MODES[config.eval.modes[0]]


def make(
    config: config_dict.ConfigDict, num_seeds: int = 1, mesh: jax.sharding.Mesh | None = None
) -> Evaluation:
    """Everything that evaluation needs; no demonstrations.

    Args:
      num_seeds: of the agents, whose states have a leading axis [S] if there are several.
      mesh: the devices to spread episodes over, or None for one.
    """
    is_deterministic(config)  # a mistake shows before anything is built
    if config.env.name in envs.HOST_ENVS:
        return _host_evaluation(config, num_seeds)
    return _device_evaluation(config, num_seeds, mesh)


def means(
    config: config_dict.ConfigDict, evaluation: Evaluation, train: PyTree
) -> dict[str, np.ndarray]:
    """Means over episodes of the metrics that the config names, scalars or [S].

    'eval/<name>' is of the first mode in config.eval.modes, 'eval/<mode>_<name>' of the others.
    """
    names = dict.fromkeys((config.eval.score, *config.eval.metrics))
    found = {}
    for index, mode in enumerate(config.eval.modes):
        prefix = f'eval/{mode}_' if index else 'eval/'
        episodes = evaluation.episodes(
            train, config.eval.num_episodes, config.eval.first_seed, mode
        )
        for name in names:
            found[prefix + name] = build.choose('eval.metrics', episodes, name).mean(-1)
    return found


def record(path: Path, evaluation: Evaluation, train: PyTree, seed: int) -> None:
    """Writes a video of one episode; says why, where nothing can be drawn."""
    try:
        frames = evaluation.frames(train, seed)
    except RuntimeError as error:
        print(f'no video: {error}', file=sys.stderr)
        return
    video.write_mp4(path, frames, evaluation.fps)


def make_policy(config: config_dict.ConfigDict, spec: types.Spec, deterministic) -> Callable:
    """train state -> Policy: agents that plan chunks act as config.execute says.

    Raises:
      ValueError: an unknown way of executing chunks.
    """
    agent = build.make_agent(config, spec)
    if 'action_horizon' not in config.agent:
        return lambda train: policies.of(agent, train, deterministic)
    To, Ta = config.agent.obs_horizon, config.agent.action_horizon
    how = config.execute
    ways = {
        'receding_horizon': lambda train: policies.receding_horizon(
            agent, train, To, Ta, deterministic, how.delay
        ),
        'temporal_ensemble': lambda train: policies.temporal_ensemble(
            agent, train, To, how.ensemble_decay, deterministic
        ),
    }
    return build.choose('execute.name', ways, how.name)


def _act_key(seed) -> jax.Array:
    """Of the policy; no key that an episode's start is drawn from."""
    return jax.random.fold_in(jax.random.key(seed), 2**31 - 1)


def template(config: config_dict.ConfigDict, spec: types.Spec, num_seeds: int) -> PyTree:
    """The shapes of a run's train state."""
    shapes = jax.eval_shape(build.make_agent(config, spec).init, jax.random.key(0))
    if num_seeds == 1:
        return shapes
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_seeds, *x.shape), x.dtype), shapes)


def first(train: PyTree, num_seeds: int) -> PyTree:
    """Of several seeds' states, the first one's."""
    return train if num_seeds == 1 else jax.tree.map(lambda x: x[0], train)


def _device_evaluation(config, num_seeds, mesh) -> Evaluation:
    (module, chosen), env = build.env_module(config), build.make_env(config)
    num_steps = config.env.episode_steps

    def start(seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        if mesh is None or len(seeds) % mesh.size:
            return keys
        return jax.lax.with_sharding_constraint(keys, sharding.shard_leading(mesh, keys))

    def run(train, seeds, deterministic):
        def one(train, keys):
            policy = make_policy(config, env.spec, deterministic)(train)
            return evaluate.evaluate(env, policy, keys, _act_key(seeds[0]), num_steps)

        one = jax.vmap(one, in_axes=(0, None)) if num_seeds > 1 else one
        return one(train, start(seeds))

    whole = None
    if mesh is not None:
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    run = jax.jit(run, out_shardings=whole)  # one program for both modes

    @jax.jit
    def trace(train, seeds):
        policy, keys = policy_of(train), jax.vmap(jax.random.key)(seeds)
        return evaluate.trace(env, policy, keys, _act_key(seeds[0]), num_steps)

    def episodes(train, num_episodes, first_seed, mode):
        seeds = np.arange(first_seed, first_seed + num_episodes, dtype=np.uint32)
        return jax.device_get(run(train, seeds, MODES[mode]))

    def frames(train, seed):
        seeds = np.array([seed], np.uint32)
        _, valid, states = trace(first(train, num_seeds), seeds)
        states = jax.tree.map(lambda x: x[: int(valid.sum()), 0], states)
        return module.render(chosen, states, 320, 320)

    policy_of = make_policy(config, env.spec, is_deterministic(config))
    shapes = template(config, env.spec, num_seeds)
    fps = module.control_hz(chosen)
    return Evaluation(shapes, episodes, frames, policy_of, fps, env.spec)


def _host_evaluation(config, num_seeds) -> Evaluation:
    module = envs.HOST_ENVS[config.env.name]
    if config.randomize or disturb.Config(**config.disturb) != disturb.Config():
        raise ValueError(f'config.randomize, config.disturb: {config.env.name!r} knows neither')
    env = module.make_host(build.section(module, config.env))
    compiled = {m: evaluate.compiled(make_policy(config, env.spec, MODES[m])) for m in MODES}
    num_steps = config.env.episode_steps

    def episodes(train, num_episodes, first_seed, mode):
        seeds = range(first_seed, first_seed + num_episodes)
        key = _act_key(first_seed)
        if num_seeds == 1:
            return evaluate.evaluate_host(env, compiled[mode](train), key, seeds, num_steps)
        each = [
            evaluate.evaluate_host(
                env, compiled[mode](jax.tree.map(lambda x: x[i], train)), key, seeds, num_steps
            )
            for i in range(num_seeds)
        ]
        return jax.tree.map(lambda *x: np.stack(x), *each)

    def frames(train, seed):
        pictures = []

        def step(action):
            result = env.step(action)
            pictures.append(env.render(0))
            return result

        policy = compiled[config.eval.modes[0]](first(train, num_seeds))
        evaluate.evaluate_host(env._replace(step=step), policy, _act_key(seed), [seed], num_steps)
        return np.stack(pictures)

    policy_of = make_policy(config, env.spec, is_deterministic(config))
    shapes = template(config, env.spec, num_seeds)
    return Evaluation(shapes, episodes, frames, policy_of, 10.0, env.spec)
