"""Shows progress: a bar in a terminal, elsewhere a line every few seconds."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

import tqdm


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
        every_s: float = 5.0,
        stream: TextIO | None = None,
    ):
        self._stream = stream or sys.stderr
        self._total, self._done, self._unit = total, done, unit
        self._every_s = every_s
        self._start, self._initial = time.monotonic(), done
        self._printed = -every_s
        self._evaluation = self._counts = ''
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=total, initial=done, unit=unit, file=self._stream, dynamic_ncols=True
            )

    def update(self, done: int, counts: Mapping[str, int] | None = None) -> None:
        """Shows that `done` steps of the total are done, and what else was counted by then."""
        known = [(name.replace('_', ' '), n) for name, n in (counts or {}).items() if n]
        self._counts = ''.join(f', {n:,} {name}' for name, n in known)
        if self._bar is not None:
            self._bar.update(done - self._done)
        self._done = done
        elapsed = time.monotonic() - self._start
        if self._bar is None and (elapsed - self._printed >= self._every_s or done >= self._total):
            self._printed = elapsed
            print(self._line(elapsed), file=self._stream, flush=True)

    def evaluation(self, metrics: Mapping[str, float]) -> None:
        """Shows the numbers of the last evaluation from now on."""
        self._evaluation = ', '.join(f'{k} {float(v):.3g}' for k, v in metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self._evaluation)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *unused) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self, elapsed: float) -> str:
        rate = (self._done - self._initial) / max(elapsed, 1e-9)
        left_s = (self._total - self._done) / rate if rate else float('inf')
        eta = f'{left_s:.0f} s left' if left_s < float('inf') else 'no estimate yet'
        text = f'{self._done}/{self._total} {self._unit}s, {rate:.3g}/s, {eta}{self._counts}'
        return f'{text} | {self._evaluation}' if self._evaluation else text
