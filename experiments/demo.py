"""Three paradigms, one task: python -m experiments.demo --workdir=runs/demo

Collects demonstrations of the scripted expert on `detour`, trains BC (MSE), BC (mixture), a
diffusion policy and PPO with their recipes, evaluates each on fresh seeds and writes report.html.
A run that was stopped continues where it was.
"""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import build, collect, demo_report, evaluate, train
from jaxpolicy import envs
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import checkpoint, metrics, video, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.loops import evaluate as evaluate_loop

FLAGS = flags.FLAGS

METHODS = {  # name: recipe
    'BC (MSE)': 'configs/detour/bc.py',
    'BC (mixture)': 'configs/detour/bc_mixture.py',
    'Diffusion': 'configs/detour/diffusion.py',
    'PPO': 'configs/detour/ppo.py',
}
FIRST_SEED = 300_000  # of the final evaluation; training's own uses other seeds
NUM_PATHS, NUM_VIDEOS, LATENCY_STEPS = 64, 2, 200


class Result(NamedTuple):
    """What the report says of one method."""

    name: str
    summary: dict  # evaluate.summarize of all episodes
    paths: list[np.ndarray]  # [T, 2] m each, the end effector from above
    video: Path
    latency_ms: float  # per action, one robot
    rows: list[dict]  # metrics.jsonl
    experience: str


def load_config(name: str, demos: Path):
    config = config_flags.load(METHODS[name])
    pairs = [tuple(pair.split('=', 1)) for pair in FLAGS.override]
    config_flags.override(config, [(k, v) for k, v in pairs if k.split('.')[0] in config])
    if 'data' in config:
        config.data.path = str(demos)
    return config


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


def measure(name: str, directory: Path, config) -> Result:
    """Evaluates a trained run and records its paths and video."""
    evaluation = build.make_evaluation(config)
    manager, step = evaluate.open_checkpoint(directory, 'latest')
    trained = checkpoint.restore_train(manager, step, evaluation.template)
    episodes = evaluation.episodes(trained, config.eval.num_episodes, FIRST_SEED)
    env, module = build.make_env(config), envs.ENVS[config.env.name]

    @jax.jit
    def trace(trained, keys, key):
        policy = evaluation.policy(trained)
        return evaluate_loop.trace(env, policy, keys, key, config.env.episode_steps, NUM_VIDEOS)

    keys = jax.vmap(jax.random.key)(FIRST_SEED + jnp.arange(NUM_PATHS))
    steps, valid, states = jax.device_get(trace(trained, keys, jax.random.key(0)))
    paths = [
        np.stack([steps['ee_x'][valid[:, i], i], steps['ee_y'][valid[:, i], i]], axis=-1)
        for i in range(NUM_PATHS)
    ]
    frames = []
    for i in range(NUM_VIDEOS):
        shown = jax.tree.map(lambda x, i=i: x[valid[:, i], i], states)
        frames.append(module.render(build.section(module, config.env), shown, 240, 240))
    video.write_mp4(directory / 'video.mp4', video.montage(frames, NUM_VIDEOS), evaluation.fps)
    rows = metrics.read(directory)
    env_steps = rows[-1]['env_steps']
    return Result(
        name=name,
        summary=evaluate.summarize(episodes),
        paths=paths,
        video=directory / 'video.mp4',
        latency_ms=latency_ms(evaluation.policy, trained, env.spec),
        rows=rows,
        experience=f'{env_steps:,} env steps' if env_steps else f'{FLAGS.num_demos:,} demos',
    )


def main(_):
    root, seed, begin = Path(FLAGS.workdir), FLAGS.seed, time.perf_counter()
    root.mkdir(parents=True, exist_ok=True)
    demos = root / f'demos_{FLAGS.num_demos}_seed{seed}.npz'

    def say(text: str) -> None:
        print(f'[{time.perf_counter() - begin:4.0f} s] {text}', flush=True)

    if not demos.exists():
        say(f'collecting {FLAGS.num_demos} demonstrations')
        episodes_lib.save(demos, collect.collect('detour', FLAGS.num_demos, seed)[0])
    results = []
    for name in METHODS:
        config, directory = load_config(name, demos), root / Path(METHODS[name]).stem
        say(f'training {name}')
        if not train.train(config, directory, seed, record=False):
            raise SystemExit('stopped and saved; the same command continues')
        say(f'evaluating {name} over {config.eval.num_episodes} episodes')
        results.append(measure(name, directory, config))
        row = results[-1].summary
        say(
            f'{name}: success {row["success_max"]["mean"]:.3f}, '
            f'touches the pillar {row["contact_max"]["mean"]:.3f}, '
            f'{results[-1].latency_ms:.2f} ms per action'
        )
    elapsed_s = time.perf_counter() - begin
    demo_report.write(root / 'report.html', results, demos, elapsed_s, workdir.versions())
    say(f'open {root / "report.html"}')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', 'runs/demo', 'Directory of the demo.')
    flags.DEFINE_integer('seed', 0, 'Seed of the demonstrations and of all training.')
    flags.DEFINE_integer('num_demos', 1000, 'Demonstrations to collect.')
    flags.DEFINE_multi_string('override', [], 'key=value for every recipe that has the key.')
    config_flags.run_main(main)
