"""Trains the runs of a plan with an engine: what is finished stays, what failed is tried again."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.io import workdir
from jaxpolicy.sweeps import (
    acting,
    engine,
    estimate,
    halving,
    jobs,
    outcome,
    plan,
    result,
    shared_programs,
    tally,
)

_WAIT_S = 0.2  # between two looks at the jobs
_NUM_ATTEMPTS = 2  # a run that fails is tried again once
_NUM_LOST = 5  # times in a row that a run is lost without a further round, which is a failure

Group = Sequence[plan.Planned]  # runs that one job trains


class Report(NamedTuple):
    """How the runs of a sweep ended; stopped: whether a signal ended it before all runs did.

    num_weak: how many runs were stopped early, by the judge.
    """

    num_finished: int
    num_failed: int
    stopped: bool
    num_weak: int = 0


class _Active(NamedTuple):
    group: Group
    handle: engine.Handle


def missing(
    folder: Path, planned: Sequence[plan.Planned], keep_stopped: bool = False
) -> list[plan.Planned]:
    """The runs that have not finished; the results of the others get the names of this plan.

    Args:
      keep_stopped: whether runs that were stopped early stay so.
    """
    over = ('finished', 'stopped') if keep_stopped else ('finished',)
    there = {found.identity: found for found in result.read(folder)}
    left = []
    for run in planned:
        found = there.get(run.identity)
        if found is None or found.status not in over:
            left.append(run)
        elif (found.name, found.changes) != (run.name, run.changes):
            result.write(folder, dataclasses.replace(found, name=run.name, changes=run.changes))
    return left


def run_all(
    folder: Path,
    groups: Sequence[Group],
    where: engine.Engine,
    request,
    flags: Sequence[str] = (),
    judge: halving.Judge | None = None,
) -> Report:
    """Trains runs, each in its workdir below `folder`, and writes a result for each.

    Args:
      groups: of runs that share a program; a run that shares none is a group of its own.
      request: its `received` turns True where the sweep is asked to stop.
      flags: more flags of every job's command.
      judge: says which runs are too weak to go on. Each is then a group of its own.
    """
    work = _Work(folder, groups, where, flags, judge)
    try:
        while work.todo or work.active:
            work.look()
            if request.received:
                work.stop()
                break
            work.fill()
            time.sleep(_WAIT_S)
    finally:
        for _, handle in work.active.values():
            handle.kill()
    ended = work.tally.counts
    return Report(ended['finished'], ended['failed'], request.received, ended['stopped'])


class _Work:
    """What is left, what is being trained in which slot, and what has ended."""

    def __init__(self, folder: Path, groups: Sequence[Group], where: engine.Engine, flags, judge):
        self.todo: list[Group] = []
        for group in groups:
            self.todo += shared_programs.at_one_round(folder, group)
        self.active: dict[int, _Active] = {}
        self._judge: halving.Judge | None = judge
        self._stopping = False  # whether the sweep was asked to stop
        self._weak: dict[str, str] = {}  # why a run was asked to stop
        self._folder, self._engine, self._flags = folder, where, flags
        self._attempts: dict[str, int] = {}
        self._lost: dict[str, tuple[int, int]] = {}  # how often, and with how many rounds
        self._clock = estimate.Clock(folder, where.num_slots)
        self.tally = tally.Tally(folder, sum(map(len, groups)), self._clock)
        self._waiting: set[str] = set()  # runs whose workdir another process has

    def fill(self) -> None:
        """Starts jobs while there are slots for them."""
        free = [slot for slot in range(self._engine.num_slots) if slot not in self.active]
        with self._engine.at_once():
            for group in list(self.todo):
                if not free:
                    return
                if self._judge and (why := self._judge.why_stopped(group[0])):
                    self.todo.remove(group)
                    self._end_weak(group[0], why, None)
                elif self._may_begin(group):
                    job = jobs.of(self._folder, group, self._flags)
                    there = self._engine.attach(job)
                    if there or all(map(self._is_free, group)):
                        slot = free.pop(0)
                        self._begin(group)
                        self.active[slot] = _Active(group, there or self._engine.start(job, slot))

    def _begin(self, group: Group) -> None:
        self.todo.remove(group)
        for run in group:
            found = outcome.collect(self._folder, run, 'running')
            result.write(self._folder, found)
            self._clock.begin(run, found, len(group))

    def look(self) -> None:
        """Takes in the jobs that have ended."""
        for slot, (group, handle) in list(self.active.items()):
            if ended := handle.poll():
                del self.active[slot]
                self._end(group, ended)
            elif self._judge and (why := self._judge.why_stopped(group[0])):
                self._stop_weak(group[0], handle, why)

    def _stop_weak(self, run: plan.Planned, handle: engine.Handle, why: str) -> None:
        """Has a run save and stop, once; its result says so already, for a sweep that is killed."""
        if run.identity not in self._weak:
            self._weak[run.identity] = why
            result.write(self._folder, outcome.collect(self._folder, run, 'running', stopped=why))
            handle.stop()

    def stop(self) -> None:
        """Has all jobs save and stop, and waits for them."""
        self._stopping = True
        self.todo.clear()
        for _, handle in self.active.values():
            handle.stop()
        while self.active:
            for slot, (group, handle) in list(self.active.items()):
                if ended := handle.poll():
                    del self.active[slot]
                    if ended.status == 0 or group[0].identity in self._weak:
                        self._end(group, ended)
                        continue
                    for run in group:  # they stay runs that are not over
                        found = outcome.collect(self._folder, run, 'running', ended.memory_bytes)
                        result.write(self._folder, found)
            time.sleep(_WAIT_S)

    def _end(self, group: Group, ended: engine.Ended) -> None:
        go_on = [self._goes_on(run) for run in group] if ended.lost else [False]
        if all(go_on):
            title = plan.title(group[0]) + (f' and {len(group) - 1} more' if group[1:] else '')
            print(f'{title}: lost, and goes on elsewhere: {ended.lost}', flush=True)
            self.todo[:0] = shared_programs.at_one_round(self._folder, group)
            for run in group:
                self._clock.end(run, None)
            return
        for run in group:
            log, shared = jobs.log_of(self._folder, group), len(group) > 1
            error = outcome.why_failed(self._folder, run, ended.status, log, shared)
            if ended.lost:
                error = f'lost {_NUM_LOST} times without a further round: {ended.lost}\n{error}'
            self._end_run(run, error, ended.memory_bytes, is_last=run is group[-1])

    def _goes_on(self, run: plan.Planned) -> bool:
        """Whether a run that was lost goes on; perhaps it is what its machines do not survive."""
        rounds = outcome.num_rounds(self._folder, run)
        times, before = self._lost.get(run.identity, (0, -1))
        times = 1 if rounds > before else times + 1
        self._lost[run.identity] = times, max(rounds, before)
        return times < _NUM_LOST

    def _end_run(
        self, run: plan.Planned, error: str, memory_bytes: int | None, is_last: bool
    ) -> None:
        """Takes in that a run has ended; is_last: of its group."""
        self._attempts[run.identity] = self._attempts.get(run.identity, 0) + 1
        if self._judge:  # which takes in the last evaluations
            self._judge.why_stopped(run)
        if error and run.identity in self._weak:
            self._end_weak(run, self._weak[run.identity], memory_bytes)
        elif not error:
            found = outcome.collect(self._folder, run, 'finished', memory_bytes)
            self._write(run, found, is_last)
        elif self._attempts[run.identity] < _NUM_ATTEMPTS and not self._stopping:
            title = plan.title(run)
            print(f'{title}: failed and is tried again: {error.splitlines()[0]}', flush=True)
            self.todo.append([run])  # alone: perhaps all of them together need too much memory
            self._clock.end(run, None)
        else:
            if self._judge:
                self._judge.fail(run)
            found = outcome.collect(self._folder, run, 'failed', memory_bytes, error)
            self._write(run, found, is_last)

    def _end_weak(self, run: plan.Planned, why: str, memory_bytes: int | None) -> None:
        found = outcome.collect(self._folder, run, 'stopped', memory_bytes, stopped=why)
        self._write(run, found)

    def _write(self, run: plan.Planned, found: result.Result, is_last: bool = True) -> None:
        waiting = [one for group in self.todo for one in group]
        self.tally.end(run, found, waiting if is_last and not self._stopping else None)

    def _may_begin(self, group: Group) -> bool:
        """Whether the run whose checkpoint this one needs, if any, has finished.

        Where it is over without that, this one is over as well.
        """
        run = group[0]
        if not run.trained_by:
            return True
        groups = [*self.todo, *(active.group for active in self.active.values())]
        if run.trained_by in {one.identity for group in groups for one in group}:
            return False
        found = acting.trained(self._folder, run)
        if found and found.status == 'finished':
            return True
        self.todo.remove(group)
        name, status = (found.name, found.status) if found else (run.trained_by, 'missing')
        if status == 'stopped':
            self._write(run, outcome.collect(self._folder, run, 'stopped'))
        else:
            error = f'expected the run that trains it, {name}, to have finished, found it {status}'
            self._write(run, outcome.collect(self._folder, run, 'failed', error=error))
        return False

    def _is_free(self, run: plan.Planned) -> bool:
        """Whether no process has the workdir: one of a sweep that was killed may still save."""
        try:
            os.close(workdir.lock(self._folder / run.workdir))
        except ValueError as error:
            if run.identity not in self._waiting:
                self._waiting.add(run.identity)
                print(f'{plan.title(run)}: waiting: {error}', file=sys.stderr, flush=True)
            return False
        return True
