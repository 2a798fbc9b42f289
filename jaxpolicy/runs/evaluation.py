"""Builds the evaluation of the agent that a config trains."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import ranges, sharding, types
from jaxpolicy.envs.wrap import disturb
from jaxpolicy.io import summary
from jaxpolicy.loops import evaluate
from jaxpolicy.runs import compiling, environment, groups, learner, sections

PyTree = types.PyTree

NUM_TRACED, NUM_FILMED = 64, 2  # the first episodes, which keep their metrics, and their states
FPS = 30.0  # frames per second of videos, for a task without `control_hz`


class Evaluation(NamedTuple):
    """A trained agent in its environment.

    template: the shapes of the train state, which `checkpoint.restore_train` needs.
    episodes(train, num_episodes, first_seed, mode) -> metrics of each episode, {name:
      [num_episodes]} or, with several seeds, {name: [S, num_episodes]}; mode: 'deterministic' or
      'stochastic'.
    traced(train, num_episodes, first_seed, mode) -> (what `episodes` returns, `evaluate.Trace` of
      the first episodes of the first seed's agent). It is the same program as `episodes`, and a
      call that was made with the same weights costs nothing. A RuntimeError where the simulator
      runs outside JAX.
    frames(train, num_episodes, first_seed) -> uint8 [T, H, W, 3], the pictures of the first of
      these episodes, acted by the first seed's agent; a RuntimeError where nothing can be drawn.
    policy(train) -> Policy, for the train state of one seed.
    fps: frames per second of simulated time.
    spec: of the environment.
    names(train, num_episodes) -> the metrics of episodes, by tracing; outside JAX, by one step.
    task(train, num_episodes) -> what `compiling` needs to compile `episodes` ahead; or None.
    """

    template: PyTree
    episodes: Callable[[PyTree, int, int, str], dict[str, np.ndarray]]
    traced: Callable[[PyTree, int, int, str], tuple[dict[str, np.ndarray], evaluate.Trace]]
    frames: Callable[[PyTree, int, int], np.ndarray]
    policy: Callable[[PyTree], types.Policy]
    fps: float
    spec: types.Spec
    names: Callable[[PyTree, int], list[str]]
    task: Callable[[PyTree, int], compiling.Task | None] = lambda train, num_episodes: None


def make(
    config: config_dict.ConfigDict,
    num_seeds: int = 1,
    mesh: jax.sharding.Mesh | None = None,
    agent: Any = None,
) -> Evaluation:
    """Builds everything that evaluation needs; demonstrations are not needed.

    Args:
      num_seeds: how many agents were trained together; several have states that lead with [S].
      mesh: the devices to spread episodes over, or None for one.
      agent: of the run, where it was built already; with None it is built here.

    Raises:
      ValueError: the config does not fit together, or the run has no simulator.
      ImportError: the simulator is not installed.
    """
    groups.check(config)  # a mistake shows before anything is built
    learner.acts_deterministically(config)
    ranges.check_seeds('config.eval.first_seed', config.eval.first_seed, config.eval.num_episodes)
    task, _ = environment.task_of(config)
    if task.make is None:
        return _on_host(config, num_seeds, agent)
    return _on_device(config, num_seeds, mesh, agent)


def means(
    config: config_dict.ConfigDict, evaluation: Evaluation, train: PyTree
) -> dict[str, np.ndarray]:
    """Evaluates the agent: means over episodes of the metrics that the config names, [] or [S].

    'eval/<name>' is the mean in the first of config.eval.modes, 'eval/<mode>_<name>' in another.
    Broken episodes are left out, and 'eval/broken_episodes' counts them, where there are any. If
    all of them broke, the means are NaN, and a line on stderr says so.
    """
    found = {}
    for index, mode in enumerate(config.eval.modes):
        prefix = f'eval/{mode}_' if index else 'eval/'
        episodes = evaluation.episodes(
            train, config.eval.num_episodes, config.eval.first_seed, mode
        )
        sound = summary.is_sound(episodes)
        for name in sections.metric_names(config, episodes):
            found[prefix + name] = summary.sound_mean(episodes[name], sound)
        if not sound.all():
            found[f'{prefix}broken_episodes'] = (~sound).sum(-1).astype(np.float32)
        if message := summary.all_broke(episodes, mode):
            print(f'\nevaluation: {message}', file=sys.stderr)
    return found


def record(
    path: Path, evaluation: Evaluation, train: PyTree, num_episodes: int, first_seed: int
) -> None:
    """Writes a video of the first of these episodes, or prints why nothing can be drawn."""
    try:
        frames = evaluation.frames(train, num_episodes, first_seed)
    except RuntimeError as error:
        print(f'no video: {error}', file=sys.stderr)
        return
    from jaxpolicy.io import video  # its library is slow to import

    video.write_mp4(path, frames, evaluation.fps)


def _act_key(seed) -> jax.Array:
    """The policy's key, which differs from all keys that episodes' starts are drawn from."""
    return jax.random.fold_in(jax.random.key(seed), 2**31 - 1)


def _some(length: int) -> int:
    """The length of an episode that can be drawn."""
    if not length:
        raise RuntimeError('the first episode broke at its first step')
    return length


def _numbers(num_episodes: int, first_seed: int) -> np.ndarray:
    return np.arange(first_seed, first_seed + num_episodes, dtype=np.uint32)


def _on_device(config, num_seeds, mesh, agent) -> Evaluation:
    (task, chosen), env = environment.on_device(config), environment.make_env(config)
    agent = agent or learner.make_agent(config, env.spec)
    policy_of, num_steps = learner.make_policy(config, agent), chosen.episode_steps
    counts = learner.acts_deterministically(config)

    def start(seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        if mesh is None or len(seeds) % mesh.size:
            return keys
        return jax.lax.with_sharding_constraint(keys, sharding.shard_leading(mesh, keys))

    def run(train, seeds, deterministic):
        def one(train, keys):
            policy = policy_of(train, deterministic)
            return evaluate.evaluate_and_trace(
                env, policy, keys, _act_key(seeds[0]), num_steps, NUM_TRACED, NUM_FILMED
            )

        if num_seeds == 1:
            return one(train, start(seeds))
        found, trace = jax.vmap(one, in_axes=(0, None))(train, start(seeds))
        return found, jax.tree.map(lambda x: x[0], trace)

    whole = None
    if mesh is not None:
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    run = jax.jit(run, out_shardings=whole)  # one program for both modes, episodes and pictures
    known: dict[tuple, Any] = {}  # calls with the weights of the last call, and what they returned
    weights: list[PyTree] = [None]

    def traced(train, *call):
        if weights[0] is not train:
            known.clear()
            weights[0] = train
        if call not in known:
            num_episodes, first_seed, mode = call
            seeds = _numbers(num_episodes, first_seed)
            known[call] = jax.device_get(run(train, seeds, learner.MODES[mode]))
        return known[call]

    def frames(train, num_episodes, first_seed):
        if task.render is None:
            raise RuntimeError(f'the module of {task.name!r} has no function render')
        _, trace = traced(train, num_episodes, first_seed, config.eval.modes[0])
        length = _some(int(trace.valid[:, 0].sum()))
        states = jax.tree.map(lambda x: x[:length, 0], trace.states)
        return task.render(chosen, states, 320, 320)

    def ahead(train, num_episodes):
        return compiling.Task(run, (train, _numbers(num_episodes, 0), True))

    def names(train, num_episodes):
        found = run.trace(train, _numbers(num_episodes, 0), True).out_info[0]
        return sorted(set(found) - {'broken'})

    shapes = learner.template(agent, num_seeds)
    fps = task.control_hz(chosen) if task.control_hz else FPS
    policy, episodes = lambda t: policy_of(t, counts), lambda *call: traced(*call)[0]
    return Evaluation(shapes, episodes, traced, frames, policy, fps, env.spec, names, ahead)


def _on_host(config, num_seeds, agent) -> Evaluation:
    task, chosen = environment.task_of(config)
    if config.randomize or config.wrap or disturb.Config(**config.disturb) != disturb.Config():
        raise ValueError(
            f'config.randomize, config.wrap, config.disturb: expected none for {task.name!r}, '
            'which runs outside JAX'
        )
    assert task.make_host is not None
    env = task.make_host(chosen)
    agent = agent or learner.make_agent(config, env.spec)
    policy_of, num_steps = learner.make_policy(config, agent), chosen.episode_steps
    compiled = {
        name: evaluate.compiled(lambda train, d=deterministic: policy_of(train, d))
        for name, deterministic in learner.MODES.items()
    }

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

    def names(train, num_episodes):
        del num_episodes

        def init(train, obs):  # what the policy has to say against its settings, it says here
            return policy_of(learner.first(train, num_seeds), True).init(obs)

        jax.eval_shape(init, train, env.reset([0]))
        *_, values = env.step(np.zeros((1, *env.spec.action.shape), env.spec.action.dtype))
        return sorted(set(evaluate.metric_names(values)) - {'broken'})

    def traced(train, num_episodes, first_seed, mode):
        raise RuntimeError(f'{task.name!r} runs outside JAX, where steps are not kept')

    def frames(train, num_episodes, first_seed):
        pictures, seed = [], first_seed

        def step(action):
            result = env.step(action)
            pictures.append(env.render(0))
            return result

        policy = compiled[config.eval.modes[0]](learner.first(train, num_seeds))
        filmed, key = env._replace(step=step), _act_key(seed)
        found = evaluate.evaluate_host(filmed, policy, key, [seed], num_steps)
        return np.stack(pictures[: _some(int(found['length'][0]))])

    counts = learner.acts_deterministically(config)
    shapes = learner.template(agent, num_seeds)
    fps = task.control_hz(chosen) if task.control_hz else FPS
    policy = lambda t: policy_of(t, counts)  # noqa: E731
    return Evaluation(shapes, episodes, traced, frames, policy, fps, env.spec, names)
