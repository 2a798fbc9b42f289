"""Trains runs of a sweep in one program: python -m experiments.train_together --workdir=DIR ...

`experiments.sweep` calls this for settings that differ in numbers of their agents alone, such as a
learning rate. DIR is the folder of the sweep, and --runs=A,B are identities in its plan.json. Each
run has a workdir of its own, with the files that `experiments.train` would write.
"""

import sys
from pathlib import Path

from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import wandb_tracker
from jaxpolicy.runs import launch
from jaxpolicy.sweeps import plan

FLAGS = flags.FLAGS


def main(_):
    folder = Path(FLAGS.workdir)
    planned = {run.identity: run for run in plan.read(folder)}
    if unknown := sorted(set(FLAGS.runs) - set(planned)):
        raise ValueError(f'--runs: expected runs of {folder / plan.FILE}, found {unknown[0]!r}')
    runs = [planned[name] for name in FLAGS.runs]
    if any(run.seeds != runs[0].seeds for run in runs):
        raise ValueError('--runs: expected runs with the same seeds')
    seeds = runs[0].seeds
    place = wandb_tracker.place_of_flags()
    options = launch.Options(seeds[0], len(seeds), 1, FLAGS.video, place)
    configs = plan.configs_of(runs)
    settings = [(configs[run.identity], folder / run.workdir) for run in runs]
    if not launch.train_settings(settings, options, [plan.title(run) for run in runs]):
        sys.exit('stopped and saved; the same sweep continues these runs')
    print(f'done: {len(runs)} runs')


if __name__ == '__main__':
    config_flags.define_input('workdir', None, 'Folder of a sweep.', folder=True, required=True)
    flags.DEFINE_list('runs', None, 'Identities of the runs.', required=True)
    wandb_tracker.define_place()
    flags.DEFINE_bool('video', False, 'Record an episode of each run at the end.')
    config_flags.run_main(main)
