"""Speed of training a diffusion policy, with --peer=torch beside a loop in PyTorch.

  python -m experiments.bench.training --config=configs/pusht/diffusion_keypoints.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --config.data.num_episodes=10 --peer=torch

A turn is `loop.epochs_per_round` epochs: it gathers windows, makes updates and averages weights.
The peer makes as many updates of the same network in the manner of Diffusion Policy's own loop, in
turns with ours (`peers/torch_training.py`). With fewer episodes a turn is shorter, but an update
takes as long.

compile_s is the time of the first turn less that of a later one, without a cache on disk.
over_limit is the median time of an update, divided by the time of three forward passes' operations
at the rate of square products that the same run measures. --out writes the rows as JSON.
"""

import time
from collections.abc import Callable

import jax
import numpy as np
from absl import flags
from ml_collections import config_dict

from jaxpolicy import registry
from jaxpolicy.data import windows
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths
from jaxpolicy.loops import offline
from jaxpolicy.runs import kinds, program, sections

from . import floor, peers, sampling_parts

FLAGS = flags.FLAGS
PEERS = ('torch',)


def make_runners(
    config: config_dict.ConfigDict, peer: str
) -> tuple[dict[str, Callable[[], None]], int, float]:
    """Functions that make a turn, by name; the updates of a turn; the operations of an update."""
    if config.agent.name != 'diffusion':
        raise ValueError(f'--config: expected a diffusion agent, found {config.agent.name!r}')
    peers.check(peer, PEERS)
    run = kinds.make_run(config)
    compiled = program.of_run(run, seed=0, num_seeds=1, mesh=None)
    state = compiled.init()
    params = jax.device_get(state.train.params['denoiser'])

    def turn():
        nonlocal state
        state, metrics = compiled.step(state, run.data)
        jax.block_until_ready(metrics)

    module = registry.resolve('agents', config.agent.name, 'config.agent.name')
    agent = sections.section(module.Config, config.agent, 'agent')
    batch_size = config.loop.batch_size
    an_epoch = offline.num_updates(windows.num_windows(run.data), batch_size)
    updates = config.loop.epochs_per_round * an_epoch
    work = 3 * sampling_parts.flops(agent, params, batch_size, run.spec)
    runners = {'jaxpolicy': turn}
    if peer:
        make = peers.load(peer, PEERS).make
        runners[peer] = make(agent, params, jax.device_get(run.data), batch_size, updates)
    return runners, updates, work


def measure(runners: dict[str, Callable[[], None]], num_turns: int) -> dict[str, list[float]]:
    """The seconds of every turn of each runner, the first one included."""
    times: dict[str, list[float]] = {who: [] for who in runners}
    for _ in range(num_turns + 1):
        for who, turn in runners.items():
            begin = time.perf_counter()
            turn()
            times[who].append(time.perf_counter() - begin)
    return times


def make_rows(times: dict[str, list[float]], updates: int, work: float, rate: float) -> list[dict]:
    """The row of each runner; `rate` is in operations per second."""
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
    runners, updates, work = make_runners(FLAGS.config, FLAGS.peer)
    times = measure(runners, FLAGS.turns)
    rows = make_rows(times, updates, work, floor.square_rate())
    for row in rows:
        print(
            f'{row["who"]:10s} {row["ms"]:9.1f} ms an update  {row["updates_per_s"]:8.2f}/s  '
            f'{row["over_limit"]:5.2f} x limit  {row["ms"] / rows[0]["ms"]:5.2f} x ours  '
            f'compile {row["compile_s"]:.1f} s'
        )
    if FLAGS.out:
        paths.write_json(FLAGS.out, rows)


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('peer', '', f'One of {PEERS}: trained beside ours.')
    flags.DEFINE_integer('turns', 5, 'Turns of each, after the first.', lower_bound=1)
    config_flags.define_output('out', None, 'Write the rows to this JSON file.')
    config_flags.run_main(main)
