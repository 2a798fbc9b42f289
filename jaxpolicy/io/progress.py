"""Shows progress: one live line in a terminal, elsewhere a line a minute."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

_SILENT_S = 2.0  # what is over sooner is not announced where there is no terminal


class Progress:
    """Counts steps of training; use as a context manager.

    Args:
      total: steps at the end.
      done: steps done before this process (the rate counts this process's only).
      unit: what the reader is told that a step is.
      every_s: seconds between two lines where there is no terminal.
      stream: where to write, default stderr.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        unit: str = 'step',
        every_s: float = 60.0,
        stream: TextIO | None = None,
    ):
        self._stream = stream or sys.stderr
        self._total, self._done, self._unit = total, done, unit
        self._every_s, self._is_live = every_s, self._stream.isatty()
        self._start, self._initial = time.monotonic(), done
        self._apart_s = 0.0  # seconds that say nothing of how long a step takes
        self._printed = float('-inf')
        self._evaluation = self._counts = ''
        self._open = False  # whether the cursor stands behind a live line

    def update(self, done: int, counts: Mapping[str, int] | None = None) -> None:
        """Shows that `done` steps of the total are done, and what else was counted by then."""
        known = [(name.replace('_', ' '), n) for name, n in (counts or {}).items() if n]
        self._counts = ''.join(f', {n:,} {name}' for name, n in known)
        self._done = done
        if done == self._initial:
            return  # nothing is known yet of how long a step takes
        due = time.monotonic() - self._printed >= self._every_s
        if self._is_live or due or done >= self._total:
            self._show(self._line())

    def evaluation(self, metrics: Mapping[str, float]) -> None:
        """Shows the numbers of the last evaluation from now on."""
        self._evaluation = ', '.join(f'{k} {float(v):.3g}' for k, v in metrics.items())

    @contextlib.contextmanager
    def apart(self, what: str) -> Iterator[None]:
        """Says that the process does `what`, and for how long; the time counts in no rate."""
        begin, over = time.monotonic(), threading.Event()
        told = False

        def tell() -> None:
            nonlocal told
            wait_s = _SILENT_S
            while not over.wait(wait_s):
                told = True
                self._show(f'{what}, {time.monotonic() - begin:.0f} s so far')
                wait_s = 1.0 if self._is_live else self._every_s

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
            took = time.monotonic() - begin
            self._apart_s += took
            if told and not self._is_live:
                self._show(f'{what} took {took:.0f} s')
            self._printed = float('-inf')  # the next step is shown

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *unused) -> None:
        if self._open:
            print(file=self._stream, flush=True)

    def _show(self, text: str) -> None:
        self._printed = time.monotonic()
        if self._is_live:
            width = shutil.get_terminal_size().columns - 1
            print(f'\r\x1b[K{text[:width]}', end='', file=self._stream, flush=True)
            self._open = True
        else:
            print(text, file=self._stream, flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start - self._apart_s
        rate = (self._done - self._initial) / max(elapsed, 1e-9)
        left_s = (self._total - self._done) / rate if rate else float('inf')
        eta = f'{left_s:.0f} s left' if left_s < float('inf') else 'no estimate yet'
        text = f'{self._done}/{self._total} {self._unit}s, {rate:.3g}/s, {eta}{self._counts}'
        return f'{text} | {self._evaluation}' if self._evaluation else text
