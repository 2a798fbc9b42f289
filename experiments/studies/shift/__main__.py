"""Measures how far trained policies bear what their demonstrations never showed.

  python -m experiments.studies.shift --workdir=runs/bc,runs/diffusion,runs/ppo

Every policy meets the same episodes of the same task under each shift of `table.SHIFTS` and
each of its severities. --out gets shift.json (a row each), shift.md (all policies side by side) and
shift.png. What shift.json holds already is not measured again where episodes, demonstrations,
weights, config and code agree, so that the same command continues after a stop. See docs/shift.md.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from jaxpolicy import ranges
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths

from . import host, measure, report, table

FLAGS = flags.FLAGS
Shifts = dict[str, table.Shift]


def load(workdirs: Sequence[str], which: str, on_host: bool = False) -> list[measure.Trained]:
    """The policies, all of one task; `which` names the checkpoint."""
    directories = [Path(name) for name in workdirs]
    names = [directory.name for directory in directories]
    if len(set(names)) < len(names):
        names = [str(directory) for directory in directories]
    policies = [
        measure.load(directory, name, which, on_host)
        for directory, name in zip(directories, names, strict=True)
    ]
    for policy in policies[1:]:
        if policy.task.name != policies[0].task.name:
            raise ValueError(
                f'--workdir: expected runs of one task, found {policies[0].task.name!r} and '
                f'{policy.task.name!r}'
            )
    return policies


def choose(known: Shifts, names: Sequence[str], severities: Sequence[str]) -> Shifts:
    """What to measure: no shift first, then those that are named, or all that are known."""
    try:
        strengths = tuple(map(float, severities))
    except ValueError as error:
        raise ValueError(f'--severities: expected numbers, found {severities}') from error
    if not np.isfinite(strengths).all():
        raise ValueError(f'--severities: expected finite numbers, found {severities}')
    chosen = {'none': known['none']}
    for name in names or known:
        if name not in known:
            raise ValueError(f'--shifts: expected some of {sorted(known)}, found {name!r}')
        changed = severities and name != 'none'
        values = strengths if changed else known[name].severities
        chosen[name] = known[name]._replace(severities=values)
    return chosen


def measure_all(
    shifts: Shifts,
    policies: Sequence[measure.Trained],
    shown: measure.Demonstrations,
    seeds: np.ndarray,
    rows: report.Rows,
) -> list[report.Row]:
    """All rows with these episodes, after measuring what is not there yet."""
    task = policies[0].task
    make_run = host.make_run if task.make is None else measure.make_run
    common = {'num_episodes': len(seeds), 'first_seed': int(seeds[0]), 'data': shown.name}
    common |= {'env': task.name, 'demonstrations': shown.fingerprint}
    identities = {policy.name: measure.identity(policy) for policy in policies}
    runs = {}  # programs that are compiled
    cases = [(p, n, s) for n in shifts for p in policies for s in shifts[n].severities]
    for policy, name, severity in cases:
        wanted = {
            **common,
            **identities[policy.name],
            'shift': name,
            'severity': float(severity),
        }
        if rows.find(wanted):
            continue
        start, program = time.perf_counter(), measure.program(policy)
        if program not in runs:
            runs[program] = make_run(policy, shown.scale, seeds)
        numbers = measure.row(runs[program](policy, name, severity), policy, shown)
        rows.add({**wanted, 'unit': shifts[name].unit, **numbers})
        took = time.perf_counter() - start
        print(f'{report.line(rows.all[-1])}  ({took:.1f} s)', flush=True)
    # Rows of other policies stay beside these, if they were made by the same code.
    others = {'code': policies[0].code}
    wanted = [common | identities.get(row['policy'], others) for row in rows.all]
    return [row for row, w in zip(rows.all, wanted, strict=True) if w.items() <= row.items()]


def main(_):
    ranges.check_seeds('--first_seed', FLAGS.first_seed, FLAGS.num_episodes)
    out = Path(FLAGS.out or Path(FLAGS.workdir[0]) / 'shift')
    paths.probe(out, folder=True)
    known = report.Rows(out / 'shift.json')
    policies = load(FLAGS.workdir, FLAGS.checkpoint, FLAGS.host)
    shifts = choose(policies[0].shifts, FLAGS.shifts, FLAGS.severities)
    shown = measure.demonstrations(policies, ','.join(FLAGS.data or ()))
    out.mkdir(parents=True, exist_ok=True)
    seeds = np.arange(FLAGS.num_episodes, dtype=np.uint32) + np.uint32(FLAGS.first_seed)
    rows = measure_all(shifts, policies, shown, seeds, known)
    report.write(out, rows, policies[0].shifts)
    print(f'written: {out / "shift.md"}, shift.png, shift.json')


if __name__ == '__main__':
    config_flags.define_inputs(
        'workdir', None, 'Directories of the runs.', folder=True, required=True
    )
    about = 'Demonstrations; default: of the first run that has any.'
    config_flags.define_inputs('data', None, about, folder=None)
    flags.DEFINE_list('shifts', [], 'Which shifts; default: all of the task.')
    flags.DEFINE_list('severities', [], 'Other severities, for the shifts that are named.')
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes for each row.', lower_bound=1)
    config_flags.define_seed('first_seed', 500_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    about = 'Directory of the results; default: shift in the first run.'
    config_flags.define_output('out', None, about, folder=True)
    flags.DEFINE_bool('host', False, 'Runs of Push-T in gym-pusht; about 100 episodes.')
    config_flags.run_main(main)
