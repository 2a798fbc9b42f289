"""Trackers show the rows of metrics in other programs; metrics.jsonl stays the record.

A tracker that fails is left out from then on, with one warning: it never stops training.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxpolicy.io import workdir

TENSORBOARD = 'tensorboard'  # the folder of its events, in the workdir
COUNTERS = ('round', 'env_steps', 'updates')

Row = dict[str, float]


class Tracker(Protocol):
    """What a tracker does; any of it may raise any exception."""

    name: str

    def open(self, rows: Sequence[Row]) -> None:
        """Begins, or goes on after what earlier processes told it; rows: all that there are."""
        ...

    def write(self, row: Row) -> None:
        """Adds a row, which has the `COUNTERS`."""
        ...

    def truncate(self, rows: Sequence[Row]) -> None:
        """Says that only these rows count: later ones are taken back, and will be made again."""
        ...

    def close(self) -> None:
        """Says that no more rows come from this process."""
        ...


class Trackers:
    """Tells several trackers the same, and leaves out those that fail."""

    def __init__(self, trackers: Iterable[Tracker]):
        self._left = list(trackers)

    def tell(self, method: str, *arguments: Any) -> None:
        """Calls a method of each `Tracker`."""
        for tracker in list(self._left):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # whatever it is, training goes on
                self._left.remove(tracker)
                text = ' '.join(str(error).split())[:300] or type(error).__name__
                lost = f'{tracker.name} gets no more rows, and training goes on'
                print(f'warning: {lost}: {text}', file=sys.stderr, flush=True)


class TensorBoard:
    """Writes the events of a run, its config as text, and its hyper-parameters."""

    name = 'TensorBoard'

    def __init__(self, directory: Path):
        self._directory, self._events = directory, None

    def open(self, rows: Sequence[Row]) -> None:
        """Opens a file of events for more rows."""
        try:
            import tensorboardX
        except ImportError:
            logging.warning('tensorboardX is not installed: no TensorBoard events are written')
            return
        # Event files are named by the second; the suffix keeps a quick restart from overwriting.
        suffix = f'.{os.getpid()}.{len(rows)}'
        place = str(self._directory / TENSORBOARD)
        self._events = tensorboardX.SummaryWriter(logdir=place, filename_suffix=suffix)
        if (self._directory / workdir.CONFIG_FILE).exists():
            self._write_config(self._events)

    def write(self, row: Row) -> None:
        """Adds a scalar of each number, at the row's env steps, or its updates without any."""
        if self._events is None:
            return
        step = int(row['env_steps'] or row['updates'])
        for name, value in row.items():
            if name not in COUNTERS:
                self._events.add_scalar(name, value, step)
        self._events.flush()

    def truncate(self, rows: Sequence[Row]) -> None:
        """Writes all events anew, as none can be taken back."""
        self.close()
        shutil.rmtree(self._directory / TENSORBOARD, ignore_errors=True)
        self.open(rows)
        for row in rows:
            self.write(row)

    def close(self) -> None:
        """Closes the file."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_config(self, events: Any) -> None:
        from tensorboardX import summary

        values = flat_config(self._directory)
        lines = [f'    {key}={json.dumps(value)}' for key, value in values.items()]
        events.add_text('config', '\n'.join(lines))
        plain = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in values.items()
        }
        # Of the three only the start, into the run's own file: the page knows the rest by itself.
        _, start, _ = summary.hparams(plain, {})
        events.file_writer.add_summary(start)


def flat_config(directory: Path) -> dict[str, Any]:
    """The config of a run as config.json has it, by key, 'agent.gamma'; and its seeds.

    Raises:
      ValueError: there is no readable config.json.
    """
    record = workdir.load_record(directory)
    found: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f'{prefix}.{key}' if prefix else key, item)
        else:
            found[prefix] = value

    add('', record['config'])
    return found | {'seed': record['seed'], 'num_seeds': record.get('num_seeds', 1)}
