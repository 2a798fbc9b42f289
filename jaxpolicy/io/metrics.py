"""Writes rows of numbers to metrics.jsonl, metrics.csv and trackers, and draws their curves.

metrics.jsonl is the record. The CSV is written from it, and rewritten when rows are taken back;
`trackers`, such as TensorBoard, get the same rows. A row that was being written when the process
was killed is dropped. A number that is not finite is null in metrics.jsonl, and NaN where the file
is read.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from jaxpolicy.io import json_text, trackers

JSONL, CSV, CURVES = 'metrics.jsonl', 'metrics.csv', 'curves.png'
COUNTERS, Row = trackers.COUNTERS, trackers.Row
_OLD_COUNTERS = {'epoch': 'round'}  # in files of older versions


class Writer:
    """Appends rows; every row is on disk when `write` returns."""

    def __init__(self, workdir: str | Path, told: Iterable[trackers.Tracker]):
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._trackers = trackers.Trackers(told)
        self._rows: list[Row]
        self._columns: list[str]
        self._jsonl: TextIO
        self._csv: TextIO
        self._open(read(workdir))
        self._trackers.tell('open', self._rows)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def write(self, row: Mapping[str, Any], index: int, env_steps: int, updates: int) -> None:
        """Adds one row.

        Args:
          row: scalars by name, `train/loss`; anything that `float` takes.
          index: the number of the round, from 1.
          env_steps: environment steps so far.
          updates: gradient updates so far.
        """
        counters = {'round': int(index), 'env_steps': int(env_steps), 'updates': int(updates)}
        full: Row = counters | {name: float(value) for name, value in row.items()}
        self._jsonl.write(json_text.dumps(full) + '\n')
        self._jsonl.flush()
        self._rows.append(full)
        self._append_csv(full)
        self._trackers.tell('write', full)

    def last_row(self) -> Row:
        """The newest row; zeros for the counters if there is none."""
        return self._rows[-1] if self._rows else dict.fromkeys(COUNTERS, 0)

    def truncate(self, num_rows: int) -> None:
        """Keeps the first `num_rows` rows; later ones came after the checkpoint that is resumed.

        Raises:
          ValueError: there are fewer rows than that.
        """
        if num_rows > len(self._rows):
            raise ValueError(
                f'{self._workdir / JSONL}: expected {num_rows} rows, found {len(self._rows)}'
            )
        if num_rows == len(self._rows):
            return
        self._close_files()
        self._open(self._rows[:num_rows])
        self._trackers.tell('truncate', self._rows)

    def close(self) -> None:
        """Closes the files and the trackers; the writer is of no use afterwards."""
        self._close_files()
        self._trackers.tell('close')

    def _close_files(self) -> None:
        self._jsonl.close()
        self._csv.close()

    def _open(self, rows: list[Row]) -> None:
        """Makes the JSONL and the CSV say exactly `rows`, and opens all files for more."""
        self._rows = rows
        jsonl = self._workdir / JSONL
        _write_atomically(jsonl, ''.join(json_text.dumps(row) + '\n' for row in rows))
        self._jsonl = jsonl.open('a')
        self._rewrite_csv()

    def _rewrite_csv(self) -> None:
        names = {name for row in self._rows for name in row}
        self._columns = [*COUNTERS, *sorted(names - set(COUNTERS))]
        text = io.StringIO()
        table = csv.DictWriter(text, self._columns, restval='', lineterminator='\n')
        table.writeheader()
        table.writerows(self._rows)
        _write_atomically(self._workdir / CSV, text.getvalue())
        self._csv = (self._workdir / CSV).open('a', newline='')

    def _append_csv(self, row: Row) -> None:
        if not set(row) <= set(self._columns):
            self._csv.close()
            self._rewrite_csv()
            return
        table = csv.DictWriter(self._csv, self._columns, restval='', lineterminator='\n')
        table.writerow(row)
        self._csv.flush()


class NullWriter:
    """A writer that writes nothing, for all processes but the first one."""

    num_rows = 0

    def write(self, row: Mapping[str, Any], index: int, env_steps: int, updates: int) -> None:
        """Does nothing."""

    def last_row(self) -> Row:
        """The counters, all zero, as there is no row."""
        return dict.fromkeys(COUNTERS, 0)

    def truncate(self, num_rows: int) -> None:
        """Does nothing."""


def open_writer(
    workdir: str | Path, tensorboard: bool = True, more: Iterable[trackers.Tracker] = ()
) -> Writer:
    """Opens the metrics of a run for appending; what is there stays, less a half-written row.

    Args:
      more: trackers besides TensorBoard.
    """
    first = [trackers.TensorBoard(Path(workdir))] if tensorboard else []
    return Writer(workdir, [*first, *more])


def read(workdir: str | Path) -> list[Row]:
    """The rows of a run, oldest first; [] if there are none. A null in the file is NaN.

    Raises:
      ValueError: a line other than the last is not a row.
    """
    path = Path(workdir) / JSONL
    if not path.exists():
        return []
    try:
        lines = path.read_text().split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: expected text, found: {error}') from error
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f'{path}, line {number}: not JSON: {error}') from error
        if isinstance(row, dict):
            row = {_OLD_COUNTERS.get(name, name): _number(value) for name, value in row.items()}
        if not isinstance(row, dict) or not set(COUNTERS) <= set(row):
            raise ValueError(f'{path}, line {number}: expected {COUNTERS}, found {line[:100]}')
        rows.append(row)
    return rows  # lines[-1] is '' or a row that was never finished


def plot(workdir: str | Path, prefixes: tuple[str, ...] = ('eval/', 'train/')) -> Path:
    """Draws every train/ and eval/ metric against env steps (updates, where there are none).

    The band around a metric that has them lies between '<name>_low' and '<name>_high'.

    Returns:
      the path of curves.png.

    Raises:
      ValueError: there is nothing to draw.
    """
    rows = read(workdir)
    found = sorted({name for row in rows for name in row})
    bounds = {f'{name}{end}' for name in found for end in ('_low', '_high')}
    names = [
        name
        for prefix in prefixes
        for name in found
        if name.startswith(prefix) and name not in bounds
    ]
    if not names:
        raise ValueError(f'{Path(workdir) / JSONL}: nothing to draw under {prefixes}')
    axis = 'env_steps' if any(row['env_steps'] for row in rows) else 'updates'
    from matplotlib.backends import backend_agg  # slow to import, and no pyplot: no global state
    from matplotlib.figure import Figure

    num_columns = min(4, len(names))
    num_rows = math.ceil(len(names) / num_columns)
    figure = Figure(figsize=(4 * num_columns, 2.6 * num_rows), layout='constrained')
    backend_agg.FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        panel = figure.add_subplot(num_rows, num_columns, index + 1)
        points = [(row[axis], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), marker='.' if len(points) < 50 else '')
        ends = (f'{name}_low', f'{name}_high')
        band = [(row[axis], row[ends[0]], row[ends[1]]) for row in rows if ends[0] in row]
        if band:
            x, low, high = zip(*band, strict=True)
            panel.fill_between(x, low, high, alpha=0.25)
        panel.set(title=name, xlabel=axis.replace('_', ' '))
        panel.grid(alpha=0.3)
    path = Path(workdir) / CURVES
    temporary = path.with_name('.curves.tmp.png')
    figure.savefig(temporary, dpi=100)
    os.replace(temporary, path)
    return path


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(text)
    os.replace(temporary, path)
