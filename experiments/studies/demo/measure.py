"""What the demo measures of one trained run."""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.io import checkpoint, metrics, video
from jaxpolicy.io import summary as summary_lib
from jaxpolicy.loops import evaluate as evaluate_loop
from jaxpolicy.runs import build
from jaxpolicy.runs import evaluation as evaluation_lib
from jaxpolicy.runs import saved as trained_run

NUM_PATHS, NUM_VIDEOS, LATENCY_STEPS = 64, 2, 200


class Result(NamedTuple):
    """What the report says of one method."""

    name: str
    summary: dict  # summary.summarize of all episodes
    paths: list[np.ndarray]  # [T, 2] m each, the end effector from above
    video: Path | None  # None where nothing can be drawn
    latency_ms: float  # per action, one robot
    rows: list[dict]  # metrics.jsonl
    experience: str


def num_demos(config) -> int:
    return len(build.load_episodes(config).episode_ends)


def latency_ms(policy, trained, spec) -> float:
    """Mean milliseconds per action for one robot, planning included, after compilation."""
    compiled = evaluate_loop.compiled(policy)(trained)
    obs = jax.tree.map(lambda s: jnp.zeros((1, *s.shape), s.dtype), spec.obs)
    carry = compiled.init(obs)
    key = jax.random.key(0)
    for step in range(LATENCY_STEPS + 8):
        if step == 8:
            begin = time.perf_counter()
        carry, action, _ = compiled.act(carry, obs, key)
        action.block_until_ready()
    return 1e3 * (time.perf_counter() - begin) / LATENCY_STEPS


def measure(name: str, directory: Path, config, first_seed: int) -> Result:
    """Evaluates a trained run and records its paths and video."""
    evaluation = evaluation_lib.make(config)
    manager, step = trained_run.open_checkpoint(directory, 'latest')
    trained = checkpoint.restore_train(manager, step, evaluation.template)
    episodes = evaluation.episodes(
        trained, config.eval.num_episodes, first_seed, config.eval.modes[0]
    )
    env, (module, chosen) = build.make_env(config), build.env_module(config)

    @jax.jit
    def trace(trained, keys, key):
        policy = evaluation.policy(trained)
        return evaluate_loop.trace(env, policy, keys, key, config.env.episode_steps, NUM_VIDEOS)

    keys = jax.vmap(jax.random.key)(first_seed + jnp.arange(NUM_PATHS))
    steps, valid, states = jax.device_get(trace(trained, keys, jax.random.key(0)))
    paths = [
        np.stack([steps['ee_x'][valid[:, i], i], steps['ee_y'][valid[:, i], i]], axis=-1)
        for i in range(NUM_PATHS)
    ]
    film = directory / 'video.mp4'
    try:
        frames = [
            module.render(chosen, shown, 240, 240)
            for shown in (
                jax.tree.map(lambda x, i=i: x[valid[:, i], i], states) for i in range(NUM_VIDEOS)
            )
        ]
        video.write_mp4(film, video.montage(frames, NUM_VIDEOS), evaluation.fps)
    except RuntimeError as error:
        film = None
        print(f'no video: {error}')
    rows = metrics.read(directory)
    env_steps = rows[-1]['env_steps']
    return Result(
        name=name,
        summary=summary_lib.summarize(episodes),
        paths=paths,
        video=film,
        latency_ms=latency_ms(evaluation.policy, trained, env.spec),
        rows=rows,
        experience=f'{env_steps:,} env steps' if env_steps else f'{num_demos(config):,} demos',
    )
