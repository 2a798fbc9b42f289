"""Trains any agent: python -m experiments.train --config=configs/<task>/<agent>.py --workdir=DIR

The same command continues a run that was stopped, exactly. In the workdir: config.json, metrics
(metrics.jsonl, metrics.csv, tensorboard/), checkpoints/, curves.png and, at the end, video.mp4.

`--num_seeds=8` trains eight seeds in one program and reports means with 95% intervals. Environments
are spread over all devices; with `--coordinator`, over those of several processes.
"""

import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags
from ml_collections import config_dict

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint, metrics, stop, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import build, evaluation, program
from jaxpolicy.runs import dagger as interactive
from jaxpolicy.runs import saved as trained
from jaxpolicy.runs import trainer as training

FLAGS = flags.FLAGS


class Options(NamedTuple):
    """What a run is besides its config."""

    seed: int = 0
    num_seeds: int = 1
    num_devices: int = 0  # 0: all that there are
    record: bool = False  # a video at the end


def train(config: config_dict.ConfigDict, directory: Path, options: Options) -> bool:
    """Trains, or continues, the run in `directory`; False if a signal ended it early.

    Raises:
      ValueError: a config that does not fit, or a directory made with another one.
    """
    keep = (config.checkpoint.keep_last, config.checkpoint.keep_best)
    with contextlib.ExitStack() as stack:
        if sharding.is_main():
            stack.callback(os.close, workdir.lock(directory))
        request = stop.StopRequest()
        if jax.process_count() == 1:  # with more, JAX takes SIGTERM; see sharding.stop_agreed
            stack.enter_context(request)
        checkpoints = directory / 'checkpoints'
        if sharding.is_main():
            fresh = checkpoint.is_empty(checkpoints)
            workdir.prepare(directory, config, options.seed, options.num_seeds, fresh=fresh)
        run, evaluator, compiled = _make(config, options)
        # Opened last: it cleans up in a thread, which a refusal above would have to wait for.
        manager = stack.enter_context(checkpoint.open_manager(checkpoints, *keep))
        writer = metrics.NullWriter()
        if sharding.is_main():
            writer = stack.enter_context(contextlib.closing(metrics.open_writer(directory)))
        keeper = interactive.keeper(config, directory)
        trainer = training.Trainer(config, run, evaluator, compiled, manager, writer, keeper)
        state, finished = trainer.run(request)
        if writer.num_rows:
            metrics.plot(directory)
        if finished and options.record and evaluator and jax.process_count() == 1:
            evaluation.record(
                directory / 'video.mp4', evaluator, state.train, config.eval.first_seed
            )
    return finished


def _make(config, options: Options):
    """The run, its evaluation (or None) and its compiled programs, on one device or on several."""
    run, mesh = interactive.make_run(config), None
    if config.loop.name in build.ONLINE:  # imitation learns on one device
        mesh = sharding.make_mesh(options.num_devices)
        mesh = mesh if mesh.size > 1 else None
    elif options.num_devices > 1 or jax.process_count() > 1:
        raise ValueError(
            f'--num_devices: expected 1 for the loop {config.loop.name!r}, found '
            f'{options.num_devices} and {jax.process_count()} processes'
        )
    evaluator = None
    if config.eval.every:
        evaluator = evaluation.make(config, options.num_seeds, mesh)
        build.check_fit(config, run.spec, evaluator.spec)
    compiled = program.of_run(run, options.seed, options.num_seeds, mesh)
    init = compiled.init
    for name, function in (('teacher', trained.teach), ('begin', trained.begin)):
        if name in config:
            init = functools.partial(function, config, init, run.spec, options.num_seeds)
    return run, evaluator, compiled._replace(init=init)


def main(_):
    directory = Path(FLAGS.workdir)
    try:
        if FLAGS.coordinator:
            sharding.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
        options = Options(FLAGS.seed, FLAGS.num_seeds, FLAGS.num_devices, FLAGS.video)
        finished = train(FLAGS.config, directory, options)
    except (ValueError, ImportError) as error:
        sys.exit(f'train: error: {error}')
    if not finished:
        sys.exit(f'stopped and saved; the same command continues {directory}')
    print(f'done: {directory}')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
    flags.DEFINE_integer('seed', 0, 'Seed of everything that is random in training.', lower_bound=0)
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together, from --seed on.', lower_bound=1)
    flags.DEFINE_integer('num_devices', 0, 'Devices to use; 0: all.', lower_bound=0)
    flags.DEFINE_string('coordinator', None, "'host:port' of process 0, for several processes.")
    flags.DEFINE_integer('num_processes', 1, 'Processes, with --coordinator.', lower_bound=1)
    flags.DEFINE_integer('process_id', 0, 'Which process this is.', lower_bound=0)
    flags.DEFINE_bool('video', True, 'Record an episode at the end.')
    config_flags.run_main(main)
