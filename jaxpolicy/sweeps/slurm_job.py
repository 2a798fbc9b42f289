"""What a job of Slurm does: it trains a run for as long as its ticket is valid.

A ticket is a small file in the folder of the sweep, which names the one job that may train a run.
To stop a job, the sweep withdraws its ticket; a job that was submitted by a sweep which was killed
before it could note the job finds the ticket of a later one, and ends. So no run is trained twice.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.io import metrics, workdir
from jaxpolicy.sweeps import engine

_LOOK_S = 1.0  # between two looks at the process and the ticket
_NUM_LOOKS = 60  # at a lock
_NUM_IDLE = 5  # times in a row that a job's time is over before a further round
# What Slurm and submitit send to all processes of a job: here alone it is decided what they mean.
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Ticket(NamedTuple):
    """Which job may train a run.

    token: of the job, chosen before it is submitted; '' once it is withdrawn.
    cluster: to which it was submitted.
    job_id: '' until that is known.
    """

    token: str
    cluster: str = ''
    job_id: str = ''


def write(path: Path, ticket: Ticket) -> None:
    """Writes a ticket, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, ticket._asdict())


def read(path: Path) -> Ticket:
    """The ticket in a file; a withdrawn one where there is none."""
    try:
        return Ticket(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Ticket('')


def is_running(path: Path) -> bool:
    """Whether a job with the ticket in this file runs, if it would do so on this machine."""
    return workdir.owner_lives(_place(path))


def _place(path: Path) -> Path:
    """A folder that the job with a ticket locks while it runs."""
    return path.with_suffix('.running')


def _lock(folder: Path) -> int:
    """Locks a folder, once an earlier job of the same run has ended, which may still be saving."""
    for _ in range(_NUM_LOOKS):
        with contextlib.suppress(ValueError):
            return workdir.lock(folder)
        time.sleep(_LOOK_S)
    return workdir.lock(folder)


class Training:
    """A job for submitit; it returns the exit status and the memory of the process that trained.

    It has no result where it was ended from outside, as by Slurm for a job of a higher priority.
    """

    def __init__(self, job: engine.Job, ticket: Path, token: str):
        self._job, self._ticket, self._token = job, ticket, token
        self._handle: engine.Handle | None = None
        self._told = False
        self._size, self._num_idle = (
            0,
            0,
        )  # of the metrics when its time was over; how often in vain

    def __call__(self) -> tuple[int, int | None]:
        signal.signal(signal.SIGTERM, self._note)
        if not self._is_valid():
            return 1, None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, _lock(_place(self._ticket)))
            self._handle = engine.process(self._job, os.environ, _BLOCKED)
            while not (ended := self._handle.poll()):
                if self._told or not self._is_valid():
                    self._handle.stop()
                time.sleep(_LOOK_S)
        if self._told and ended.status:
            sys.exit(1)  # without a result
        return ended.status, ended.memory_bytes

    def checkpoint(self):
        """Saves, and returns the same job, to be put in the queue again; called by submitit.

        It returns None, and the job has failed, where its time seems too short for one round.
        """
        from submitit.helpers import DelayedSubmission

        handle, self._handle = self._handle, None
        if handle:
            handle.stop()
            while not handle.poll():
                time.sleep(_LOOK_S)
        file = self._job.workdir / metrics.JSONL
        size = file.stat().st_size if file.exists() else 0
        later = Training(self._job, self._ticket, self._token)
        later._size = max(size, self._size)
        later._num_idle = 0 if size > self._size else self._num_idle + 1
        return DelayedSubmission(later) if later._num_idle < _NUM_IDLE else None

    def _is_valid(self) -> bool:
        try:
            return read(self._ticket).token == self._token
        except (OSError, ValueError):  # of a file system that is slow: the next look will tell
            return True

    def _note(self, *unused) -> None:
        self._told = True
