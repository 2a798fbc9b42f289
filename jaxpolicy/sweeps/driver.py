"""Trains the runs of a plan with an engine: what is finished stays, what failed is tried again."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.io import wandb_tracker, workdir
from jaxpolicy.sweeps import engine, estimate, halving, outcome, plan, result

_WAIT_S = 0.2  # between two looks at the jobs
_NUM_ATTEMPTS = 2  # a run that fails is tried again once


class Report(NamedTuple):
    """How the runs of a sweep ended; stopped: whether a signal ended it before all runs did.

    num_weak: how many runs were stopped early, by the judge.
    """

    num_finished: int
    num_failed: int
    stopped: bool
    num_weak: int = 0


class _Active(NamedTuple):
    run: plan.Planned
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
    planned: Sequence[plan.Planned],
    where: engine.Engine,
    request,
    flags: Sequence[str] = (),
    judge: halving.Judge | None = None,
) -> Report:
    """Trains runs, each in its workdir below `folder`, and writes a result for each.

    Args:
      request: its `received` turns True where the sweep is asked to stop.
      flags: more flags of every run's command.
      judge: says which runs are too weak to go on.
    """
    work = _Work(folder, planned, where, flags, judge)
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
    return Report(work.num_finished, work.num_failed, request.received, work.num_weak)


class _Work:
    """What is left, what is being trained in which slot, and what has ended."""

    def __init__(self, folder: Path, planned, where: engine.Engine, flags, judge):
        self.todo, self.active = list(planned), {}
        self.num_finished = self.num_failed = self.num_weak = 0
        self._judge: halving.Judge | None = judge
        self._stopping = False  # whether the sweep was asked to stop
        self._weak: dict[str, str] = {}  # why a run was asked to stop
        self._folder, self._engine, self._flags = folder, where, flags
        self._attempts: dict[str, int] = {}
        self._total, self._clock = len(self.todo), estimate.Clock(folder, where.num_slots)
        self._waiting: set[str] = set()  # runs whose workdir another process has

    def fill(self) -> None:
        """Starts runs while there are slots for them."""
        free = [slot for slot in range(self._engine.num_slots) if slot not in self.active]
        for run in list(self.todo):
            if not free:
                return
            if self._judge and (why := self._judge.why_stopped(run)):
                self.todo.remove(run)
                self._end_weak(run, why, None)
            elif self._is_free(run):
                self.todo.remove(run)
                found = outcome.collect(self._folder, run, 'running')
                result.write(self._folder, found)
                self._clock.begin(run, found)
                job = engine.Job(self._arguments(run), self._folder / run.workdir)
                slot = free.pop(0)
                self.active[slot] = _Active(run, self._engine.start(job, slot))

    def look(self) -> None:
        """Takes in the runs that have ended."""
        for slot, (run, handle) in list(self.active.items()):
            if ended := handle.poll():
                del self.active[slot]
                self._end(run, ended)
            elif self._judge and (why := self._judge.why_stopped(run)):
                self._stop_weak(run, handle, why)

    def _stop_weak(self, run: plan.Planned, handle: engine.Handle, why: str) -> None:
        """Has a run save and stop, once; its result says so already, for a sweep that is killed."""
        if run.identity not in self._weak:
            self._weak[run.identity] = why
            result.write(self._folder, outcome.collect(self._folder, run, 'running', stopped=why))
            handle.stop()

    def stop(self) -> None:
        """Has all runs save and stop, and waits for them."""
        self._stopping = True
        self.todo.clear()
        for _, handle in self.active.values():
            handle.stop()
        while self.active:
            for slot, (run, handle) in list(self.active.items()):
                if ended := handle.poll():
                    del self.active[slot]
                    if ended.status == 0 or run.identity in self._weak:
                        self._end(run, ended)
                    else:  # it stays a run that is not over
                        found = outcome.collect(self._folder, run, 'running', ended.memory_bytes)
                        result.write(self._folder, found)
            time.sleep(_WAIT_S)

    def _end(self, run: plan.Planned, ended: engine.Ended) -> None:
        self._attempts[run.identity] = self._attempts.get(run.identity, 0) + 1
        error = outcome.why_failed(self._folder, run, ended.status)
        if self._judge:  # which takes in the last evaluations
            self._judge.why_stopped(run)
        if error and run.identity in self._weak:
            self._end_weak(run, self._weak[run.identity], ended.memory_bytes)
            return
        if not error:
            self.num_finished += 1
            found = outcome.collect(self._folder, run, 'finished', ended.memory_bytes)
            self._write(run, found)
            return
        if self._attempts[run.identity] < _NUM_ATTEMPTS:
            print(f'{_title(run)}: failed and is tried again: {error.splitlines()[0]}')
            self.todo.append(run)
            self._clock.end(run, None)
            return
        self.num_failed += 1
        if self._judge:
            self._judge.fail(run)
        self._write(run, outcome.collect(self._folder, run, 'failed', ended.memory_bytes, error))

    def _end_weak(self, run: plan.Planned, why: str, memory_bytes: int | None) -> None:
        self.num_weak += 1
        found = outcome.collect(self._folder, run, 'stopped', memory_bytes, stopped=why)
        self._write(run, found)

    def _write(self, run: plan.Planned, found: result.Result) -> None:
        result.write(self._folder, found)
        self._clock.end(run, found)
        done = self.num_finished + self.num_failed + self.num_weak
        text = f'[{done}/{self._total}] {_title(run)}: {found.status}'
        text += f' {found.stopped}' if found.stopped else ''
        if sound := [score for score in found.scores if score is not None]:
            text += f', {found.score} {sum(sound) / len(sound):.4g}'
            text += f' (mean of {len(sound)} seeds)' if len(found.seeds) > 1 else ''
        if found.status == 'finished' and found.score and len(sound) < len(found.seeds):
            text += f', {len(found.seeds) - len(sound)} seeds whose last score is no number'
        if (left := self._total - done) and not self._stopping:
            rest_s = self._clock.left_s(self.todo)
            about = '' if rest_s is None else f'about {estimate.duration(rest_s)} left for '
            text += f'; {about}{left} more run{"s" if left > 1 else ""}'
        print(text, flush=True)
        if found.error:
            print('  ' + found.error.replace('\n', '\n  '), flush=True)

    def _arguments(self, run: plan.Planned) -> list[str]:
        changes = [f'--config.{key}={text}' for key, text in run.overrides]
        place = self._folder / run.workdir
        seeds = [f'--seed={run.seeds[0]}', f'--num_seeds={len(run.seeds)}']
        config = [f'--config={run.recipe}', *changes, f'--workdir={place}']
        flags = [*self._flags, *wandb_tracker.flags_of_run(self._flags, _title(run))]
        return ['train', *config, *seeds, '--num_devices=1', *flags]

    def _is_free(self, run: plan.Planned) -> bool:
        """Whether no process has the workdir: one of a sweep that was killed may still save."""
        try:
            os.close(workdir.lock(self._folder / run.workdir))
        except ValueError as error:
            if run.identity not in self._waiting:
                self._waiting.add(run.identity)
                print(f'{_title(run)}: waiting: {error}', file=sys.stderr, flush=True)
            return False
        return True


def _title(run: plan.Planned) -> str:
    return f'{run.name}, {seeds_text(run.seeds)}'


def seeds_text(seeds: Sequence[int]) -> str:
    """'seed 3', or 'seeds 0-4'."""
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'seeds {seeds[0]}-{seeds[-1]}'
