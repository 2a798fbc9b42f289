"""How far trained policies bear what their demonstrations never showed.

  python -m experiments.studies.shift --workdir=runs/bc,runs/diffusion,runs/ppo

Every policy meets the same episodes of the same task under each shift of `shift_table.SHIFTS` and
each of its severities. Into --out go shift.json (a row each), shift.md (all policies side by side)
and shift.png. What shift.json holds already is not measured again, so that the same command
continues after a stop. docs/shift.md says what the shifts, units and distances are.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments.studies.shift import host as shift_host
from experiments.studies.shift import measure as shift_measure
from experiments.studies.shift import report as shift_report
from experiments.studies.shift import table as shift_table
from jaxpolicy import envs
from jaxpolicy.io import flags as config_flags

FLAGS = flags.FLAGS
Shift = shift_table.Shift
Shifts = dict[str, Shift]


def load(workdirs: Sequence[str], which: str, host: bool = False) -> list[shift_measure.Trained]:
    """The policies, all of one task; `which` names the checkpoint."""
    directories = [Path(name) for name in workdirs]
    names = [directory.name for directory in directories]
    if len(set(names)) < len(names):
        names = [str(directory) for directory in directories]
    policies = [
        shift_measure.load(directory, name, which, host)
        for directory, name in zip(directories, names, strict=True)
    ]
    for policy in policies[1:]:
        if policy.module is not policies[0].module:
            raise ValueError(
                f'--workdir: expected runs of one task, found {policies[0].config.env.name!r} and '
                f'{policy.config.env.name!r}'
            )
    return policies


def choose(table: dict[str, Shift], names: Sequence[str], severities: Sequence[str]) -> Shifts:
    """What to measure: no shift first, then those that are named, or all."""
    shifts = {'none': table['none']}
    for name in names or table:
        if name not in table:
            raise ValueError(f'--shifts: expected some of {sorted(table)}, found {name!r}')
        changed = severities and name != 'none'
        values = tuple(map(float, severities)) if changed else table[name].severities
        shifts[name] = table[name]._replace(severities=values)
    return shifts


def measure(
    shifts: Shifts,
    policies: Sequence[shift_measure.Trained],
    shown: shift_measure.Demonstrations,
    seeds: np.ndarray,
    rows: shift_report.Rows,
) -> list[shift_report.Row]:
    """All rows with these episodes, after measuring what is not there yet."""
    host = policies[0].module in envs.HOST_ENVS.values()
    make_run = shift_host.make_run if host else shift_measure.make_run
    common = {'num_episodes': len(seeds), 'first_seed': int(seeds[0]), 'data': shown.name}
    common |= {'env': policies[0].module.__name__.split('.')[-1]}
    runs = {}  # programs that are compiled
    cases = [(p, n, s) for n in shifts for p in policies for s in shifts[n].severities]
    for policy, name, severity in cases:
        wanted = {
            **common,
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
            runs[program] = make_run(policy, shown.scale, seeds)
        numbers = shift_measure.row(runs[program](policy, name, severity), policy, shown)
        rows.add({**wanted, 'unit': shifts[name].unit, **numbers})
        took = time.perf_counter() - start
        print(f'{shift_report.line(rows.all[-1])}  ({took:.1f} s)', flush=True)
    return [row for row in rows.all if common.items() <= row.items()]


def main(_):
    try:
        policies = load(FLAGS.workdir, FLAGS.checkpoint, FLAGS.host)
        shifts = choose(policies[0].table, FLAGS.shifts, FLAGS.severities)
        shown = shift_measure.demonstrations(policies, FLAGS.data)
        out = Path(FLAGS.out or Path(FLAGS.workdir[0]) / 'shift')
        out.mkdir(parents=True, exist_ok=True)
        seeds = np.arange(FLAGS.num_episodes, dtype=np.uint32) + np.uint32(FLAGS.first_seed)
        rows = measure(shifts, policies, shown, seeds, shift_report.Rows(out / 'shift.json'))
    except (ValueError, ImportError) as error:
        sys.exit(f'shift: error: {error}')
    shift_report.write(out, rows, policies[0].table)
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
    flags.DEFINE_bool('host', False, 'Runs of Push-T in gym-pusht; about 100 episodes.')
    config_flags.run_main(main)
