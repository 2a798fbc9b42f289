"""The rows, the table and the plot of `experiments.studies.shift`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from jaxpolicy.io import paths, workdir

from .table import Shift

Row = dict[str, Any]
# What a new row has in common with an older one that it replaces.
PLACE = ('env', 'policy', 'shift', 'severity', 'num_episodes', 'first_seed', 'data')
COLUMNS = 4  # panels beside each other


class Rows:
    """The rows of a shift.json, written whole after each new one."""

    def __init__(self, path: Path):
        self._path = path
        self.all: list[Row] = paths.read_rows(path)

    def find(self, wanted: Row) -> Row | None:
        """The row that agrees with `wanted` in all that it says."""
        return next((row for row in self.all if wanted.items() <= row.items()), None)

    def add(self, row: Row) -> None:
        """Keeps a row, instead of one of the same place, which was made with other things."""
        place = {key: row[key] for key in PLACE}
        self.all = [old for old in self.all if not place.items() <= old.items()] + [row]
        workdir.write_json(self._path, self.all)


def line(row: Row) -> str:
    """One row in words."""
    return f'{row["policy"]:16s} {row["shift"]:14s} {row["severity"]:<6g} {_cell(row)}'


def write(out: Path, rows: list[Row], shifts: Mapping[str, Shift]) -> None:
    """Writes shift.md and shift.png of one task's rows, which have the same episodes.

    Args:
      shifts: those of the task.
    """
    table = {(row['shift'], row['severity'], row['policy']): row for row in rows}
    policies = list(dict.fromkeys(row['policy'] for row in rows))
    places = [
        (name, severity)
        for name in shifts
        for severity in sorted({s for other, s, _ in table if other == name})
    ]
    lines = [
        f'{rows[0]["env"]}, {rows[0]["num_episodes"]} episodes a cell, the same starts in each: '
        'success [95% interval]; mean time to failure of the episodes that failed; mean distance '
        'of the visited states from the demonstrations: nearest neighbour / Mahalanobis.',
        '',
        f'| shift | severity | {" | ".join(policies)} |',
        '|---|---|' + '---|' * len(policies),
    ]
    for name, severity in places:
        cells = [table.get((name, severity, policy)) for policy in policies]
        shown = ' | '.join('' if row is None else _cell(row) for row in cells)
        unit = f'{severity:g} {shifts[name].unit}'.strip()
        lines.append(f'| {name} | {unit} | {shown} |')
    (out / 'shift.md').write_text('\n'.join(lines) + '\n')
    _plot(out / 'shift.png', table, policies, {n: s for n, s in shifts.items() if n != 'none'})


def _cell(row: Row) -> str:
    broken = row.get('broken_episodes', 0)  # rows of older versions do not count them
    if row['success'] is None:
        return f'all {broken} episodes broke'
    failed = row['time_to_failure_s']
    parts = [
        f'{row["success"]:.3f} [{row["low"]:.3f}, {row["high"]:.3f}]',
        '-' if failed is None else f'{failed:.2f} s',
        ' / '.join('-' if row[k] is None else f'{row[k]:.2f}' for k in ('knn', 'mahalanobis')),
    ]
    return '; '.join([*parts, *([f'{broken} broke'] if broken else [])])


def _plot(path: Path, table: dict, policies: list[str], shifts: dict) -> None:
    """A panel for each shift that was measured; a line with its interval for each policy."""
    shifts = {name: s for name, s in shifts.items() if any(key[0] == name for key in table)}
    columns, panels = min(COLUMNS, max(len(shifts), 1)), max(len(shifts), 1)
    figure, grid = plt.subplots(
        -(-panels // columns),
        columns,
        figsize=(3.2 * columns, 2.6 * -(-panels // columns) + 0.6),
        layout='constrained',
        sharey=True,
        squeeze=False,
    )
    for axes in grid.ravel()[len(shifts) :]:
        axes.axis('off')
    for axes, (name, shift) in zip(grid.ravel(), shifts.items(), strict=False):
        for i, policy in enumerate(policies):
            points = [(shift.nominal, table.get(('none', 0.0, policy)))]
            points += [(s, r) for (n, s, p), r in table.items() if n == name and p == policy]
            points = sorted(
                ((s, r) for s, r in points if r and r['success'] is not None),
                key=lambda point: point[0],
            )
            x, rows = [s for s, _ in points], [r for _, r in points]
            axes.plot(x, [r['success'] for r in rows], 'o-', ms=3, color=f'C{i}', label=policy)
            low, high = [r['low'] for r in rows], [r['high'] for r in rows]
            axes.fill_between(x, low, high, color=f'C{i}', alpha=0.2, lw=0)
        axes.set(title=name, xlabel=shift.unit, ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel('success')
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=max(len(policies), 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)
