"""Compiles the programs of a run beside each other, before they are called.

JAX compiles a function when it is called for the first time, one after the other. Here the caller
traces the next function while XLA compiles the last ones in threads of its own, and XLA releases
Python's lock meanwhile. A call of the function afterwards finds the compiled program.
"""

import time
from concurrent import futures
from typing import Any, NamedTuple

WORKERS = 2  # XLA compiles a program on little more than one core


class Task(NamedTuple):
    """A function to compile: what `jax.jit` returned, and arguments or their shapes."""

    function: Any
    args: tuple


class Stages(NamedTuple):
    """Seconds that one program took, and its size."""

    trace_s: float
    lower_s: float
    xla_s: float
    lines: int  # of StableHLO


class Compiler:
    """Compiles functions in threads; use it as a context manager.

    Leaving the context forgets what has not begun, and waits for what has: XLA cannot be stopped.
    """

    def __init__(self, workers: int = WORKERS):
        self._pool = futures.ThreadPoolExecutor(workers)
        self._tasks: dict[str, futures.Future[Stages]] = {}

    def __enter__(self) -> 'Compiler':
        return self

    def __exit__(self, *unused) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, name: str, task: Task, count_lines: bool = False) -> None:
        """Traces and lowers the function now, and has it compiled meanwhile."""
        begin = time.perf_counter()
        traced = task.function.trace(*task.args)
        trace_s = time.perf_counter() - begin
        lowered = traced.lower()
        lower_s = time.perf_counter() - begin - trace_s
        lines = lowered.as_text().count('\n') if count_lines else 0

        def compile_it() -> Stages:
            begin = time.perf_counter()
            lowered.compile()
            return Stages(trace_s, lower_s, time.perf_counter() - begin, lines)

        self._tasks[name] = self._pool.submit(compile_it)

    def wait(self, name: str) -> Stages | None:
        """Waits for a function; None where nobody added it. Errors of XLA are raised here."""
        return self._tasks[name].result() if name in self._tasks else None
