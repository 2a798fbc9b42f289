"""Trains many settings and seeds of recipes: python -m experiments.sweep --config=... --workdir=DIR

  python -m experiments.sweep --config=configs/pendulum/sac.py --num_seeds=5 --workdir=runs/sweep \
      --grid='agent.learning_rate=3e-4,1e-3 agent.tau=0.005,0.02'

Every run is checked before the first one starts. The seeds of a setting are trained in one program,
and settings by processes of `experiments.train`, here or on other machines (`--engine`). The same
command continues a sweep that was stopped, and a larger one runs what is new (docs/sweeps.md).
`--sweep=configs/sweeps/x.py` has all of this in a file.
"""

import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import jax
from absl import flags

from jaxpolicy.io import engine_flags, recipe_file, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import launch
from jaxpolicy.sweeps import building, definition, driver, engine_choice, plan

FLAGS = flags.FLAGS
_SHOWN = 20  # runs of a plan that are printed, if not all


def main(_):
    # This process only plans: the devices belong to the processes that train.
    jax.config.update('jax_platforms', 'cpu')
    folder, sweep = Path(FLAGS.workdir), _sweep()
    chosen = engine_flags.chosen()
    engine_choice.check(chosen)
    planned = _plan(folder, sweep)
    if FLAGS.dry_run:
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, workdir.lock(folder))
        plan.write(folder, planned)
        left = driver.missing(folder, planned)
        where = stack.enter_context(engine_choice.opened(chosen, folder))
        request = stack.enter_context(launch.StopRequest())
        video = '--video' if FLAGS.video else '--novideo'
        more = [f'--compile_cache={FLAGS.compile_cache}'] if FLAGS.compile_cache else []
        try:
            report = driver.run_all(folder, left, where, request, [video, *more])
        except KeyboardInterrupt:
            sys.exit(f'stopped at once; the same command continues {folder}')
    if report.stopped:
        sys.exit(f'stopped and saved; the same command continues {folder}')
    if report.num_failed:
        sys.exit(f'{report.num_failed} runs failed; the same command tries them again: {folder}')
    print(f'done: {folder}')


def _sweep() -> definition.Sweep:
    """What the flags define, or the recipe of a sweep with the flags that are given instead."""
    sweep = definition.Sweep(())
    if FLAGS.sweep:
        sweep = recipe_file.run(FLAGS.sweep, 'get_sweep', 'sweep')
        if not isinstance(sweep, definition.Sweep):
            kind = type(sweep).__name__
            raise ValueError(f'--sweep={FLAGS.sweep}: expected a Sweep, found {kind}')
    given = {name: FLAGS[name].value for name in FLAGS if FLAGS[name].present}
    fields = {'random': 'num_random'} | {
        name: name for name in ('grid', 'sweep_seed', 'seed', 'num_seeds')
    }
    changed = {field: given[name] for name, field in fields.items() if name in given}
    if FLAGS.config.names:
        changed['recipes'] = tuple(FLAGS.config.names)
    if FLAGS.list:
        changed['settings'] = tuple(Path(FLAGS.list).read_text().splitlines())
    mine = dict(FLAGS.config.changes)
    theirs = [word for word in sweep.overrides if word.split('=')[0] not in mine]
    changed['overrides'] = (*theirs, *(f'{key}={text}' for key, text in mine.items()))
    return dataclasses.replace(sweep, **changed)


def _plan(folder: Path, sweep: definition.Sweep) -> list[plan.Planned]:
    """Plans and checks all runs, and prints the plan."""
    begin, builder = time.monotonic(), building.Builder()
    planned = plan.plan(plan.variants(sweep), sweep, plan.read(folder), builder.build)
    for name in ('question', 'expected'):
        if text := getattr(sweep, name):
            print(f'{name}: {text}')
    left = {run.identity for run in driver.missing(folder, planned)}
    shown = planned if FLAGS.dry_run else planned[:_SHOWN]
    for run in shown:
        over = '' if run.identity in left else ', finished'
        print(f'  {run.name}, {driver.seeds_text(run.seeds)}{over}')
    if len(planned) > len(shown):
        print(f'  ... and {len(planned) - len(shown)} more')
    settings = len({run.setting for run in planned})
    print(
        f'{len(planned)} runs of {settings} settings, of which {len(left)} are to be trained; '
        'seeds in one line share a program, and every setting has programs of its own; '
        f'checked in {driver.duration(time.monotonic() - begin)}',
        flush=True,
    )
    return planned


if __name__ == '__main__':
    config_flags.define_recipes()
    flags.DEFINE_string('sweep', '', 'Recipe of a sweep, configs/sweeps/<name>.py.')
    flags.DEFINE_string('grid', '', "Values of each key: 'agent.tau=0.01,0.02 agent.gamma=0.9'.")
    config_flags.define_input('list', None, "File of settings: 'name: key=value'.", folder=False)
    flags.DEFINE_integer('random', 0, 'Settings to draw from --grid; 0: all.', lower_bound=0)
    config_flags.define_seed('sweep_seed', 0, 'Seed of what --random draws.')
    config_flags.define_seed('seed', 0, 'First seed of every setting.')
    flags.DEFINE_integer('num_seeds', 1, 'Seeds of every setting, from --seed on.', lower_bound=1)
    config_flags.define_output('workdir', None, 'Folder of the sweep.', folder=True, required=True)
    engine_flags.define()
    flags.DEFINE_bool('dry_run', False, 'Plan and check, and train nothing.')
    flags.DEFINE_bool('video', False, 'Record an episode at the end of each run.')
    config_flags.run_main(main)
