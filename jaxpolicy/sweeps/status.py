"""How far the runs of a sweep are, as a table of text."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.io import workdir
from jaxpolicy.sweeps import estimate, outcome, plan, result

_ORDER = ('running', 'failed', 'interrupted', 'waiting', 'stopped', 'finished')
_HEAD = ('run', 'seeds', 'status', 'rounds', 'left', 'score')
_WIDEST_NAME, _NARROWEST_NAME = 70, 20


class Status(NamedTuple):
    """How far a run is.

    status: of `result.Result`; or 'waiting' before it began, and 'interrupted' where it began and
      no sweep runs that would continue it.
    done: rounds, of run.num_rounds.
    left_s: seconds that the run still takes; None where that is not known.
    score: the mean over seeds of the last evaluation; None without one.
    """

    run: plan.Planned
    status: str
    done: int
    left_s: float | None
    score: float | None


def of_all(folder: Path) -> list[Status]:
    """How far each run of the plan in a folder is, in the plan's order.

    Raises:
      ValueError: the folder has no plan, or a file in it is unsound.
    """
    planned = plan.read(folder)
    if not planned:
        raise ValueError(f'{folder}: expected the folder of a sweep, found no {plan.FILE}')
    results = {found.identity: found for found in result.read(folder)}
    lives = workdir.owner_lives(folder)
    return [_of(folder, run, results.get(run.identity), lives) for run in planned]


def _of(folder: Path, run: plan.Planned, found: result.Result | None, lives: bool) -> Status:
    if found is None:
        return Status(run, 'waiting', 0, None, None)
    curve, status, left_s, done = found.curve, found.status, None, run.num_rounds
    if status != 'finished':
        rows = outcome.rows_of(folder, run)
        done = int(rows[-1]['round']) if rows else 0
        curve = outcome.curve_of(rows, run.score, len(run.seeds))
        if status == 'running' and done:
            so_far_s = rows[-1].get('time/train_s', 0.0)
            so_far_s += sum(row.get('time/eval_s', 0.0) for row in rows)
            left_s = so_far_s / done * (run.num_rounds - done)
    shown = 'interrupted' if status == 'running' and not lives else status
    values = [value for value in (curve[-1]['values'] if curve else ()) if value is not None]
    return Status(run, shown, done, left_s, sum(values) / len(values) if values else None)


def table(found: Sequence[Status], width: int = 120, height: int = 0) -> str:
    """The runs as lines of text, and a line that sums them up.

    Args:
      width: letters of a line, at most.
      height: lines, at most; what matters least is then left out. 0: all.
    """
    count = collections.Counter(status.status for status in found)
    summed = ', '.join(f'{count[name]} {name}' for name in _ORDER if count[name])
    lines = [f'{len(found)} runs: {summed}']
    shown = list(found)
    if height and len(found) > height - 3:
        urgent = sorted(range(len(found)), key=lambda i: _ORDER.index(found[i].status))
        chosen = sorted(urgent[: max(1, height - 4)])
        shown = [found[i] for i in chosen]
        lines.insert(0, f'... and {len(found) - len(shown)} more')
    rows = [_HEAD, *map(_row, shown)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    rest = sum(widths[1:]) + 2 * (len(_HEAD) - 1)
    widths[0] = min(widths[0], _WIDEST_NAME, max(_NARROWEST_NAME, width - rest))
    return '\n'.join([*(_line(row, widths)[:width] for row in rows), *lines])


def _row(status: Status) -> tuple[str, ...]:
    run = status.run
    seeds = f'{run.seeds[0]}-{run.seeds[-1]}' if len(run.seeds) > 1 else str(run.seeds[0])
    left = '' if status.left_s is None else estimate.duration(status.left_s)
    score = '' if status.score is None else f'{run.score} {status.score:.4g}'
    progress = f'{status.done}/{run.num_rounds}'
    return (run.name, seeds, status.status, progress, left, score)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name = row[0] if len(row[0]) <= widths[0] else '...' + row[0][3 - widths[0] :]
    cells = [text.ljust(size) for text, size in zip([name, *row[1:]], widths, strict=True)]
    return '  '.join(cells).rstrip()
