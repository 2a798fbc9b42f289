"""Trains the runs of a plan with an engine: what is finished stays, what failed is tried again."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.io import workdir
from jaxpolicy.sweeps import engine, outcome, plan, result

_WAIT_S = 0.2  # between two looks at the jobs
_NUM_ATTEMPTS = 2  # a run that fails is tried again once
_NUM_LOST = 5  # times in a row that a run is lost without a further round, which is a failure


class Report(NamedTuple):
    """How the runs of a sweep ended; stopped: whether a signal ended it before all runs did."""

    num_finished: int
    num_failed: int
    stopped: bool


class _Active(NamedTuple):
    run: plan.Planned
    handle: engine.Handle


def missing(folder: Path, planned: Sequence[plan.Planned]) -> list[plan.Planned]:
    """The runs that have not finished; the results of the others get the names of this plan."""
    there = {found.identity: found for found in result.read(folder)}
    left = []
    for run in planned:
        found = there.get(run.identity)
        if found is None or found.status not in ('finished', 'stopped'):
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
) -> Report:
    """Trains runs, each in its workdir below `folder`, and writes a result for each.

    Args:
      request: its `received` turns True where the sweep is asked to stop.
      flags: more flags of every run's command.
    """
    work = _Work(folder, planned, where, flags)
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
    return Report(work.num_finished, work.num_failed, request.received)


class _Work:
    """What is left, what is being trained in which slot, and what has ended."""

    def __init__(self, folder: Path, planned, where: engine.Engine, flags):
        self.todo, self.active = list(planned), {}
        self.num_finished = self.num_failed = 0
        self._folder, self._engine, self._flags = folder, where, flags
        self._attempts: dict[str, int] = {}
        self._lost: dict[str, tuple[int, int]] = {}  # how often, and with how many rounds
        self._total, self._begin = len(self.todo), time.monotonic()
        self._waiting: set[str] = set()  # runs whose workdir another process has

    def fill(self) -> None:
        """Starts runs while there are slots for them."""
        free = [slot for slot in range(self._engine.num_slots) if slot not in self.active]
        with self._engine.together():
            for run in list(self.todo):
                if not free:
                    return
                job = engine.Job(self._arguments(run), self._folder / run.workdir)
                there = self._engine.attach(job)
                if there or self._is_free(run):
                    self.todo.remove(run)
                    result.write(self._folder, outcome.collect(self._folder, run, 'running'))
                    slot = free.pop(0)
                    self.active[slot] = _Active(run, there or self._engine.start(job, slot))

    def look(self) -> None:
        """Takes in the runs that have ended."""
        for slot, (run, handle) in list(self.active.items()):
            if ended := handle.poll():
                del self.active[slot]
                self._end(run, ended)

    def stop(self) -> None:
        """Has all runs save and stop, and waits for them."""
        self.todo.clear()
        for _, handle in self.active.values():
            handle.stop()
        while self.active:
            for slot, (run, handle) in list(self.active.items()):
                if ended := handle.poll():
                    del self.active[slot]
                    if ended.status == 0:
                        self._end(run, ended)
                    else:  # it stays a run that is not over
                        found = outcome.collect(self._folder, run, 'running', ended.memory_bytes)
                        result.write(self._folder, found)
            time.sleep(_WAIT_S)

    def _end(self, run: plan.Planned, ended: engine.Ended) -> None:
        if ended.lost and self._goes_on(run):
            print(f'{_title(run)}: lost, and goes on elsewhere: {ended.lost}', flush=True)
            self.todo.insert(0, run)
            return
        self._attempts[run.identity] = self._attempts.get(run.identity, 0) + 1
        error = outcome.why_failed(self._folder, run, ended.status)
        if ended.lost:
            error = f'lost {_NUM_LOST} times without a further round: {ended.lost}\n{error}'
        if not error:
            self.num_finished += 1
            found = outcome.collect(self._folder, run, 'finished', ended.memory_bytes)
            self._write(run, found)
            return
        if self._attempts[run.identity] < _NUM_ATTEMPTS:
            print(f'{_title(run)}: failed and is tried again: {error.splitlines()[0]}')
            self.todo.append(run)
            return
        self.num_failed += 1
        self._write(run, outcome.collect(self._folder, run, 'failed', ended.memory_bytes, error))

    def _goes_on(self, run: plan.Planned) -> bool:
        """Whether a run that was lost goes on; perhaps it is what its machines do not survive."""
        rounds = outcome.num_rounds(self._folder, run)
        times, before = self._lost.get(run.identity, (0, -1))
        times = 1 if rounds > before else times + 1
        self._lost[run.identity] = times, max(rounds, before)
        return times < _NUM_LOST

    def _write(self, run: plan.Planned, found: result.Result) -> None:
        result.write(self._folder, found)
        done = self.num_finished + self.num_failed
        text = f'[{done}/{self._total}] {_title(run)}: {found.status}'
        if sound := [score for score in found.scores if score is not None]:
            text += f', {found.score} {sum(sound) / len(sound):.4g}'
            text += f' (mean of {len(sound)} seeds)' if len(found.seeds) > 1 else ''
        if found.status == 'finished' and found.score and len(sound) < len(found.seeds):
            text += f', {len(found.seeds) - len(sound)} seeds whose last score is no number'
        if left := self._total - done:
            rest_s = (time.monotonic() - self._begin) / done * left
            text += f'; about {duration(rest_s)} left for {left} runs'
        print(text, flush=True)
        if found.error:
            print('  ' + found.error.replace('\n', '\n  '), flush=True)

    def _arguments(self, run: plan.Planned) -> list[str]:
        changes = [f'--config.{key}={text}' for key, text in run.overrides]
        place = self._folder / run.workdir
        seeds = [f'--seed={run.seeds[0]}', f'--num_seeds={len(run.seeds)}']
        config = [f'--config={run.recipe}', *changes, f'--workdir={place}']
        return ['train', *config, *seeds, '--num_devices=1', *self._flags]

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


def duration(seconds: float) -> str:
    """'50 s', '12 min' or '3.4 h'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
