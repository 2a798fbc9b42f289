"""Speed of training a diffusion policy, with --peer=torch beside a loop in PyTorch.

  python -m experiments.bench.training --config=configs/pusht/diffusion_keypoints.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --config.data.num_episodes=10 --peer=torch

A turn is `loop.epochs_per_round` passes over the data: gathering windows, updates, EMA. The peer
makes as many updates of the same network in the manner of Diffusion Policy's own loop, in turns
with ours (`bench_torch_training`). Fewer episodes make turns shorter and an update as long.

compile_s is the first turn less a later one, without a cache on disk; over_limit the median time of
an update over that of three forward passes' operations at the rate of square products measured in
the same run. --out writes the rows as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import config_dict

from experiments.bench import floor as bench_floor
from experiments.bench import sampling_parts as parts
from jaxpolicy import agents
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import build, program
from jaxpolicy.runs import kinds as runs

FLAGS = flags.FLAGS
PEERS = ('', 'torch')


def make_runners(
    config: config_dict.ConfigDict, peer: str
) -> tuple[dict[str, Callable[[], Any]], int, float]:
    """Who: one turn of theirs; updates in a turn; floating-point operations of an update."""
    if config.agent.name != 'diffusion':
        raise ValueError(f'--config: expected a diffusion agent, found {config.agent.name!r}')
    if peer not in PEERS:
        raise ValueError(f'--peer: expected one of {PEERS}, found {peer!r}')
    run = runs.make_run(config)
    compiled = program.make(run.loop, seed=0, num_seeds=1)
    state = compiled.init()
    params = jax.device_get(state.train.params['denoiser'])

    def turn():
        nonlocal state
        state, metrics = compiled.step(state, run.data)
        jax.block_until_ready(metrics)

    agent = build.section(agents.AGENTS[config.agent.name], config.agent)
    work = 3 * parts.flops(agent, params, config.loop.batch_size, run.spec)
    runners = {'jaxpolicy': turn}
    if peer:
        from experiments.bench.peers import torch_training as bench_torch_training

        data, batch = jax.device_get(run.data), config.loop.batch_size
        runners['torch'] = bench_torch_training.make(
            agent, params, data, batch, run.updates_per_step
        )
    return runners, run.updates_per_step, work


def measure(runners: dict[str, Callable[[], Any]], num_turns: int) -> dict[str, list[float]]:
    """Seconds of each turn, the first one too."""
    times: dict[str, list[float]] = {who: [] for who in runners}
    for _ in range(num_turns + 1):
        for who, turn in runners.items():
            begin = time.perf_counter()
            turn()
            times[who].append(time.perf_counter() - begin)
    return times


def make_rows(times: dict[str, list[float]], updates: int, work: float, rate: float) -> list[dict]:
    """What is written of each; `rate` in operations per second."""
    rows = []
    for who, (first, *later) in times.items():
        turn = float(np.median(later))
        rows.append(
            {
                'who': who,
                'compile_s': first - turn,
                'ms': 1e3 * turn / updates,
                'updates_per_s': updates / turn,
                'over_limit': turn / updates / (work / rate),
                'updates_per_turn': updates,
                'device': jax.devices()[0].device_kind,
            }
        )
    return rows


def main(_):
    jax.config.update('jax_enable_compilation_cache', False)
    try:
        runners, updates, work = make_runners(FLAGS.config, FLAGS.peer)
    except (ValueError, ImportError) as error:
        sys.exit(f'bench_training: error: {error}')
    times = measure(runners, FLAGS.turns)
    rows = make_rows(times, updates, work, bench_floor.square_rate())
    for row in rows:
        print(
            f'{row["who"]:10s} {row["ms"]:9.1f} ms an update  {row["updates_per_s"]:8.2f}/s  '
            f'{row["over_limit"]:5.2f} x limit  {row["ms"] / rows[0]["ms"]:5.2f} x ours  '
            f'compile {row["compile_s"]:.1f} s'
        )
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('peer', '', f'One of {PEERS}.')
    flags.DEFINE_integer('turns', 5, 'Turns of each, after the first.', lower_bound=1)
    flags.DEFINE_string('out', None, 'Write the rows to this JSON file.')
    config_flags.run_main(main)
