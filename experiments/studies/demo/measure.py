"""What the demo measures of one trained run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types
from jaxpolicy.io import metrics, video
from jaxpolicy.io import summary as summary_lib
from jaxpolicy.loops import evaluate
from jaxpolicy.runs import environment, evaluation, learner, saved

WARM_UP_STEPS, LATENCY_STEPS = 8, 200


class Result(NamedTuple):
    """What the report says of one method."""

    name: str
    summary: dict  # summary.summarize of all episodes
    paths: list[np.ndarray]  # [T, 2] m each, the end effector from above
    video: Path | None  # None where nothing can be drawn
    latency_ms: float  # per action, one robot
    rows: list[dict]  # metrics.jsonl
    experience: str


def of_run(name: str, directory: Path, first_seed: int) -> Result:
    """Evaluates the last weights of a trained run and records their paths and a video.

    Args:
      first_seed: of the episodes.
    """
    run = saved.open_run(directory, 'latest')
    config, evaluator = run.config, evaluation.make(run.config, run.num_seeds, agent=run.agent)
    mode = config.eval.modes[0]
    episodes, trace = evaluator.traced(run.train, config.eval.num_episodes, first_seed, mode)
    rows = metrics.read(directory)
    return Result(
        name=name,
        summary=summary_lib.summarize(episodes),
        paths=_paths(trace),
        video=_film(run, trace, directory / 'video.mp4', evaluator.fps),
        latency_ms=latency_ms(evaluator.policy, run.first, run.spec),
        rows=rows,
        experience=_experience(run, rows[-1]['env_steps']),
    )


def latency_ms(
    policy_of: Callable[[types.PyTree], types.Policy], train: types.PyTree, spec: types.Spec
) -> float:
    """Mean milliseconds per action for one robot, planning included, after compilation."""
    compiled = evaluate.compiled(policy_of)(train)
    obs = jax.tree.map(lambda s: jnp.zeros((1, *s.shape), s.dtype), spec.obs)
    carry = compiled.init(obs)
    key = jax.random.key(0)
    for step in range(LATENCY_STEPS + WARM_UP_STEPS):
        if step == WARM_UP_STEPS:
            begin = time.perf_counter()
        carry, action, _ = compiled.act(carry, obs, key)
        action.block_until_ready()
    return 1e3 * (time.perf_counter() - begin) / LATENCY_STEPS


def _paths(trace: evaluate.Trace) -> list[np.ndarray]:
    """The end effector's paths, [T, 2] m each."""
    places = np.stack([trace.metrics['ee_x'], trace.metrics['ee_y']], axis=-1)  # [T, P, 2]
    return [places[valid, i] for i, valid in enumerate(np.transpose(trace.valid))]


def _film(run: saved.Saved, trace: evaluate.Trace, path: Path, fps: float) -> Path | None:
    """Writes the traced episodes beside each other; None where nothing can be drawn."""
    task, chosen = environment.on_device(run.config)
    try:
        if task.render is None:
            raise RuntimeError(f'the module of {task.name!r} has no function render')
        frames = []
        for i in np.flatnonzero(trace.valid[0, : trace.states.reward.shape[1]]):
            states = jax.tree.map(lambda x, i=i: x[trace.valid[:, i], i], trace.states)
            frames.append(task.render(chosen, states, 240, 240))
        if not frames:
            raise RuntimeError('the first episodes broke at their first steps')
        video.write_mp4(path, video.montage(frames, len(frames)), fps)
    except RuntimeError as error:
        print(f'no video: {error}')
        return None
    return path


def _experience(run: saved.Saved, env_steps: float) -> str:
    """What the run has learnt from, in words."""
    if run.config.loop.name in learner.ONLINE:
        return f'{env_steps:,} env steps'
    return f'{len(saved.learnt_from(run).episode_ends):,} demos'
