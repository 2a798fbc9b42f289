"""Trains any agent: python -m experiments.train --config=configs/<task>/<agent>.py --workdir=DIR

The same command continues a run that was stopped, exactly. It writes into the workdir: config.json
and spec.json (what was asked for, and what the policy sees and does), metrics (metrics.jsonl,
metrics.csv, tensorboard/), checkpoints/, curves.png and, at the end, video.mp4.

`--num_seeds=8` trains eight seeds in one program and reports means with 95% intervals. Environments
are spread over all devices; with `--coordinator`, over the devices of several processes.
"""

import sys
from pathlib import Path

from absl import flags

from jaxpolicy import sharding
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import mistakes, wandb_tracker
from jaxpolicy.runs import launch

FLAGS = flags.FLAGS


def main(_):
    directory = Path(FLAGS.workdir)
    several = [name for name in ('num_processes', 'process_id') if FLAGS[name].present]
    if several and not FLAGS.coordinator:
        raise ValueError(f'--{several[0]}: expected a --coordinator with it, found none')
    if FLAGS.coordinator:
        sharding.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    options = launch.Options(FLAGS.seed, FLAGS.num_seeds, FLAGS.num_devices, FLAGS.video)
    options = options._replace(wandb=wandb_tracker.place_of_flags())
    try:
        finished = launch.train(FLAGS.config, directory, options)
    except OSError as error:
        reason = mistakes.describe(error)
        again = 'the same command continues from the last checkpoint that was saved there'
        raise ValueError(f'--workdir: {directory}: {reason}; {again}') from error
    if not finished:
        sys.exit(f'stopped and saved; the same command continues {directory}')
    print(f'done: {directory}')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    config_flags.define_output('workdir', None, 'Directory of the run.', folder=True, required=True)
    config_flags.define_seed('seed', 0, 'Seed of everything that is random in training.')
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together, from --seed on.', lower_bound=1)
    flags.DEFINE_integer('num_devices', 0, 'Devices to use; 0: all.', lower_bound=0)
    flags.DEFINE_string('coordinator', None, "'host:port' of process 0, for several processes.")
    flags.DEFINE_integer('num_processes', 1, 'Processes, with --coordinator.', lower_bound=1)
    flags.DEFINE_integer('process_id', 0, 'Which process this is.', lower_bound=0)
    flags.DEFINE_bool('video', True, 'Record an episode at the end.')
    wandb_tracker.define_place()
    config_flags.run_main(main)
