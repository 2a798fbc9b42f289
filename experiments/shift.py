"""How far trained policies bear what their demonstrations never showed.

  python -m experiments.shift --workdir=runs/bc,runs/diffusion,runs/ppo

Every policy meets the same episodes of the same task under each shift of `shift_table.SHIFTS` and
each of its severities. Into --out go shift.json (a row each), shift.md (all policies side by side)
and shift.png. What shift.json holds already is not measured again, so that the same command
continues after a stop. docs/shift.md says what the shifts, units and distances are.
"""

import copy
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags

from experiments import build, shift_measure, shift_report, shift_table
from jaxpolicy.io import flags as config_flags

FLAGS = flags.FLAGS


def load() -> list[shift_measure.Trained]:
    """The policies, all of one task."""
    directories = [Path(name) for name in FLAGS.workdir]
    names = [directory.name for directory in directories]
    if len(set(names)) < len(names):
        names = [str(directory) for directory in directories]
    policies = [
        shift_measure.load(directory, name, FLAGS.checkpoint)
        for directory, name in zip(directories, names, strict=True)
    ]
    for policy in policies[1:]:
        if policy.module is not policies[0].module:
            raise ValueError(
                f'--workdir: expected runs of one task, found {policies[0].config.env.name!r} and '
                f'{policy.config.env.name!r}'
            )
    return policies


def demonstrations(policies: list[shift_measure.Trained]) -> shift_measure.Demonstrations:
    """Those of --data, or of the first run that has learnt from any."""
    configs = [policy.config for policy in policies]
    config = next((c for c in configs if 'data' in c and c.data.path), None)
    if FLAGS.data:
        config = copy.deepcopy(config if config is not None else configs[0])
        zarr = FLAGS.data.rstrip('/').endswith('.zarr')
        with config.unlocked():
            config.data = {
                'format': 'pusht_zarr' if zarr else 'episodes',
                'path': FLAGS.data,
                'num_episodes': 0,
                'subset_seed': 0,
            }
    if config is None:
        raise ValueError('--data: expected a file of demonstrations, as no run has learnt from any')
    return shift_measure.demonstrations(config, policies[0].module.make(policies[0].task).spec)


def measure(name: str, shift, policies, shown, rows: shift_report.Rows) -> None:
    """All policies under all severities of a shift, but for what is there already."""
    seeds = np.arange(FLAGS.first_seed, FLAGS.first_seed + FLAGS.num_episodes, dtype=np.uint32)
    runs = {}
    severities = shift.severities
    if FLAGS.severities and name != 'none':
        severities = tuple(float(text) for text in FLAGS.severities)
    for policy in policies:
        for severity in severities:
            wanted = {
                **same_episodes(shown),
                'policy': policy.name,
                'step': policy.step,
                'weights': policy.weights,
                'shift': name,
                'severity': float(severity),
            }
            if rows.find(wanted):
                continue
            start, program = time.perf_counter(), shift_measure.program(policy)
            if program not in runs:
                runs[program] = shift_measure.make_run(policy, shift, shown.scale, seeds)
            numbers = shift_measure.row(runs[program](policy, severity), policy, shown)
            rows.add({**wanted, 'unit': shift.unit, **numbers})
            took = time.perf_counter() - start
            print(f'{shift_report.line(rows.all[-1])}  ({took:.1f} s)', flush=True)


def same_episodes(shown: shift_measure.Demonstrations) -> dict:
    """What rows have in common that may stand in one table."""
    episodes = {'num_episodes': FLAGS.num_episodes, 'first_seed': FLAGS.first_seed}
    return {**episodes, 'data': shown.name}


def main(_):
    try:
        policies = load()
        task = policies[0].module.__name__.split('.')[-1]
        table = shift_table.SHIFTS[task]
        names = dict.fromkeys(['none', *(FLAGS.shifts or table)])
        shifts = {name: build.choose('shifts', table, name) for name in names}
        shown = demonstrations(policies)
        out = Path(FLAGS.out or Path(FLAGS.workdir[0]) / 'shift')
        out.mkdir(parents=True, exist_ok=True)
        rows = shift_report.Rows(out / 'shift.json')
        for name, shift in shifts.items():
            measure(name, shift, policies, shown, rows)
    except (ValueError, ImportError) as error:
        sys.exit(f'shift: error: {error}')
    common = same_episodes(shown)
    shift_report.write(out, [row for row in rows.all if common.items() <= row.items()], task)
    print(f'written: {out / "shift.md"}, shift.png, shift.json')


if __name__ == '__main__':
    flags.DEFINE_list('workdir', None, 'Directories of the runs.', required=True)
    flags.DEFINE_string('data', None, 'Demonstrations; default: of the first run that has any.')
    flags.DEFINE_list('shifts', [], 'Which shifts; default: all of the task.')
    flags.DEFINE_list('severities', [], 'Other severities, for the shifts that are named.')
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes for each row.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 500_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    flags.DEFINE_string('out', None, 'Directory of the results; default: shift in the first run.')
    config_flags.run_main(main)
