"""Trains many settings and seeds of recipes: python -m experiments.sweep --config=... --workdir=DIR

  python -m experiments.sweep --config=configs/pendulum/sac.py --num_seeds=5 --workdir=runs/sweep \
      --grid='agent.learning_rate=3e-4,1e-3 agent.tau=0.005,0.02'

Every run is checked before the first one starts. The seeds of a setting are trained in one program,
and so are settings that differ in numbers of their agents alone; others have processes of their
own, here or on other machines (`--engine`). The same command continues a sweep that was stopped,
and a larger one runs what is new (docs/sweeps.md). `--sweep=configs/sweeps/x.py` has all of this
in a file.
"""

import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import jax
from absl import flags

from jaxpolicy.io import engine_flags, recipe_file, sweep_flags, wandb_tracker, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import launch
from jaxpolicy.sweeps import (
    acting_plan,
    building,
    definition,
    driver,
    engine_choice,
    halving,
    plan,
    plan_text,
    shared_programs,
)

FLAGS = flags.FLAGS
_SHOWN = 20  # runs of a plan that are printed, if not all


def main(_):
    # This process only plans: the devices belong to the processes that train.
    jax.config.update('jax_platforms', 'cpu')
    folder, sweep = Path(FLAGS.workdir), _sweep()
    chosen = engine_flags.chosen()
    engine_choice.check(chosen)
    options, shown = halving.read_options(FLAGS.halving), wandb_tracker.flags_of_sweep(folder)
    planned, groups = _plan(folder, sweep, options, engine_choice.num_slots(chosen))
    if FLAGS.dry_run:
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, workdir.lock(folder))
        plan.write(folder, planned)
        where = stack.enter_context(engine_choice.opened(chosen, folder))
        judge = halving.Judge(folder, planned, options) if options else None
        request = stack.enter_context(launch.StopRequest())
        video = '--video' if FLAGS.video else '--novideo'
        more = [f'--compile_cache={FLAGS.compile_cache}'] if FLAGS.compile_cache else []
        try:
            report = driver.run_all(folder, groups, where, request, [video, *more, *shown], judge)
        except KeyboardInterrupt:
            sys.exit(f'stopped at once; the same command continues {folder}')
    if report.stopped:
        sys.exit(f'stopped and saved; the same command continues {folder}')
    if report.num_failed:
        sys.exit(f'{report.num_failed} runs failed; the same command tries them again: {folder}')
    weak = f', {report.num_weak} runs were stopped as the weaker ones' if report.num_weak else ''
    print(f'done: {folder}{weak}')


def _sweep() -> definition.Sweep:
    """What the flags define, or the recipe of a sweep with the flags that are given instead."""
    sweep = definition.Sweep(())
    if FLAGS.sweep:
        sweep = recipe_file.run(FLAGS.sweep, 'get_sweep', 'sweep')
        if not isinstance(sweep, definition.Sweep):
            kind = type(sweep).__name__
            raise ValueError(f'--sweep={FLAGS.sweep}: expected a Sweep, found {kind}')
    changed = sweep_flags.fields()
    mine = dict(FLAGS.config.changes)
    theirs = [word for word in sweep.overrides if word.split('=')[0] not in mine]
    changed['overrides'] = (*theirs, *(f'{key}={text}' for key, text in mine.items()))
    return dataclasses.replace(sweep, **changed)


def _plan(folder: Path, sweep: definition.Sweep, options, num_slots: int):
    """Plans and checks all runs, prints the plan, and groups those that are to be trained."""
    begin, builder = time.monotonic(), building.Builder()
    variants = plan.variants(sweep)
    planned = plan.plan(variants, sweep, plan.read(folder), builder.build)
    planned = acting_plan.add(planned, variants, sweep.acting, builder, sweep.num_seeds)
    if options:
        halving.check(planned)
    for name in ('question', 'expected'):
        if text := getattr(sweep, name):
            print(f'{name}: {text}')
    left = driver.missing(folder, planned, bool(options))
    left = halving.order(left) if options else left
    most = 1 if options else FLAGS.together or shared_programs.MOST  # halving judges each setting
    groups, why = shared_programs.share(left, builder.look, min(most, -(-len(left) // num_slots)))
    shown, took_s = 0 if FLAGS.dry_run else _SHOWN, time.monotonic() - begin
    print(plan_text.of(folder, planned, groups, why, num_slots, shown, took_s), flush=True)
    return planned, groups


if __name__ == '__main__':
    config_flags.define_recipes()
    sweep_flags.define()
    config_flags.define_output('workdir', None, 'Folder of the sweep.', folder=True, required=True)
    engine_flags.define()
    text = 'Settings in one program, at most; 0: see the docs, 1: each has one of its own.'
    flags.DEFINE_integer('together', 0, text, lower_bound=0)
    flags.DEFINE_bool('dry_run', False, 'Plan and check, and train nothing.')
    config_flags.define_switch('halving', "Stop weak settings early: 'factor=3 first=0.1'.")
    wandb_tracker.define_project()
    flags.DEFINE_bool('video', False, 'Record an episode at the end of each run.')
    config_flags.run_main(main)
