"""How long the runs of a sweep will take, by those that have finished."""

import heapq
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.sweeps import outcome, plan, result


class _Known(NamedTuple):
    """What a finished run took; rate: seconds of training for a unit of length."""

    run: plan.Planned
    compile_s: float
    rate: float


class _Begun(NamedTuple):
    """A run that goes on: when it was begun here, and the seconds it took and rounds it had.

    num_shared: how many runs share its program; each takes its share of the time.
    """

    since: float
    before_s: float
    done: int
    num_shared: int


class Clock:
    """Knows what runs took, and estimates the others.

    A run takes what the finished runs of its recipe with as many seeds took (with any number of
    seeds, if there are none): their mean time of compiling, and their mean time of training and of
    evaluations for an env step (an update, a round), times its own number of them. The runs of this
    process also say how long a process needs for the rest, such as importing JAX.

    Args:
      folder: of the sweep, whose plan and results it reads.
      num_slots: how many runs are trained at once.
    """

    def __init__(self, folder: Path, num_slots: int):
        self._folder, self._num_slots = folder, num_slots
        self._known: dict[str, _Known] = {}
        self._begun: dict[str, tuple[plan.Planned, _Begun]] = {}
        self._rest_s: list[float] = []  # of the runs of this process
        found = {one.identity: one for one in result.read(folder)}
        for run in plan.read(folder):
            if run.identity in found:
                self._add(run, found[run.identity])

    def begin(self, run: plan.Planned, found: result.Result, num_shared: int = 1) -> None:
        """Says that a run begins now.

        Args:
          found: its result so far.
          num_shared: how many runs share its program.
        """
        done = outcome.num_rounds(self._folder, run)
        begun = _Begun(time.monotonic(), _seconds(found), done, num_shared)
        self._begun[run.identity] = run, begun

    def end(self, run: plan.Planned, found: result.Result | None) -> None:
        """Says that a run is over; found: its result, None where it is tried again."""
        _, begun = self._begun.pop(run.identity, (run, None))
        if begun and found and found.status == 'finished':
            self._add(run, found)
            took_s = (time.monotonic() - begun.since) / begun.num_shared
            self._rest_s.append(max(0.0, took_s - (_seconds(found) - begun.before_s)))

    def left_s(self, waiting: Sequence[plan.Planned]) -> float | None:
        """Seconds until all runs are over: those that were begun, and those that wait.

        None where the time of a run is not known, as no run of its recipe has finished.
        """
        now = time.monotonic()
        begun = [
            (run, of.done, (now - of.since) / of.num_shared) for run, of in self._begun.values()
        ]
        waits = [(run, outcome.num_rounds(self._folder, run), 0.0) for run in waiting]
        times = []
        for run, done, so_far_s in begun + waits:
            seconds = self._of(run, done)
            if seconds is None:
                return None
            times.append(max(0.0, seconds - so_far_s))
        slots = [0.0] * self._num_slots  # when each of them is free
        for seconds in times:
            heapq.heapreplace(slots, slots[0] + seconds)
        return max(slots)

    def _add(self, run: plan.Planned, found: result.Result) -> None:
        if found.status == 'finished':
            rate = (found.train_s + found.eval_s) / _length(run)
            self._known[run.identity] = _Known(run, found.compile_s, rate)

    def _of(self, run: plan.Planned, done: int) -> float | None:
        """Seconds of a run that has `done` rounds already."""
        known = [one for one in self._known.values() if one.run.recipe == run.recipe]
        equal = [one for one in known if len(one.run.seeds) == len(run.seeds)]
        if not (known := equal or known):
            return None
        length = _length(run) * (1.0 - min(1.0, done / run.num_rounds))
        rest_s = sum(self._rest_s) / len(self._rest_s) if self._rest_s else 0.0
        compile_s = sum(one.compile_s for one in known) / len(known)
        return rest_s + compile_s + length * sum(one.rate for one in known) / len(known)


def text(folder: Path, left: Sequence[plan.Planned], num_slots: int) -> str:
    """What a plan says about its time; '' where nothing is left to train."""
    if not left:
        return ''
    seconds = Clock(folder, num_slots).left_s(left)
    if seconds is None:
        several = len({run.recipe for run in left}) > 1
        which = 'a run of each recipe' if several else 'the first run'
        return f'the time they take is estimated once {which} is over'
    together = f', {num_slots} runs at once' if num_slots > 1 else ''
    return f'they take about {duration(seconds)}{together}, by the runs that have finished'


def duration(seconds: float) -> str:
    """'50 s', '12 min' or '3.4 h'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _seconds(found: result.Result) -> float:
    return found.train_s + found.compile_s + found.eval_s


def _length(run: plan.Planned) -> int:
    """Env steps or updates; rounds, where the plan does not say them."""
    return run.budget or max(1, run.num_rounds)
