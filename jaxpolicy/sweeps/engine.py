"""Where the runs of a sweep are trained. An engine starts jobs and says how they ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

LOG = 'log.txt'  # in the workdir of a run: what its command printed
_PATIENCE_S = 10.0  # for a job that was asked to end at once


class Job(NamedTuple):
    """A command of jaxpolicy: its name, such as 'train', and its flags; and the run's workdir."""

    arguments: list[str]
    workdir: Path


class Ended(NamedTuple):
    """How a job ended.

    status: its exit status, below 0 for a signal.
    memory_bytes: see `Result`.
    lost: why it ended through no fault of its own, as when its machine was lost; '' otherwise. Such
      a run goes on from its last checkpoint.
    """

    status: int
    memory_bytes: int | None
    lost: str = ''


class Handle(NamedTuple):
    """A job that was started.

    poll() -> `Ended`, or None while it runs.
    stop(): asks it to save and to stop; once is enough.
    kill(): ends it at once.
    """

    poll: Callable[[], Ended | None]
    stop: Callable[[], None]
    kill: Callable[[], None]


class Engine(NamedTuple):
    """Starts jobs.

    num_slots: how many jobs may run at the same time.
    start(job, slot) -> Handle; slot: from 0 to num_slots - 1, not that of another running job.
    attach(job) -> Handle of a job of an earlier sweep that is queued, runs, or ended since, where
      jobs outlive their sweep; None: there is none, and the job is to be started.
    at_once() -> a context, at whose end all jobs that were started in it are submitted at once.
    """

    num_slots: int
    start: Callable[[Job, int], Handle]
    attach: Callable[[Job], Handle | None] = lambda job: None
    at_once: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def local(num_workers: int = 0) -> Engine:
    """Processes on this machine; where it has GPUs, each process has one.

    Args:
      num_workers: how many of them at once; 0: one for each GPU, or one for two cores.

    Raises:
      ValueError: there are fewer cores or GPUs.
    """
    devices, cores = gpus(), _cores()
    most, what = (len(devices), 'GPU') if devices else (cores, 'core')
    if num_workers > most:
        raise ValueError(
            f'--workers: expected at most {most}, one for each {what}, found {num_workers}'
        )
    num_slots = num_workers or (len(devices) if devices else max(1, cores // 2))

    def start(job: Job, slot: int) -> Handle:
        more = {'CUDA_VISIBLE_DEVICES': devices[slot]} if devices else {}
        return process(job, os.environ | more)

    return Engine(num_slots, start)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; [] without any.

    JAX is not asked, which would take their memory.
    """
    if os.environ.get('JAX_PLATFORMS', '').split(',')[0] == 'cpu':
        return []
    if (told := os.environ.get('CUDA_VISIBLE_DEVICES')) is not None:
        return [name.strip() for name in told.split(',') if name.strip() not in ('', '-1')]
    try:
        done = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line for line in done.stdout.splitlines() if line.startswith('GPU ')]
    return [str(index) for index in range(len(lines))] if done.returncode == 0 else []


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process(
    job: Job, environment: Mapping[str, str], blocked: Iterable[signal.Signals] = ()
) -> Handle:
    """Starts a job as a process of this machine, which saves and stops when this process ends.

    Args:
      environment: its environment variables, all of them.
      blocked: signals that it does not get, since `stop` alone is to stop it.
    """
    job.workdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-m', 'jaxpolicy.sweeps.worker', *job.arguments]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # a process inherits what is blocked
    try:
        with (job.workdir / LOG).open('ab') as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal reaches the sweep alone
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    ended: list[Ended] = []

    def poll() -> Ended | None:
        if not ended:
            # `Popen.poll` would not say how much memory it took.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not pid:
                return None
            process.returncode = os.waitstatus_to_exitcode(status)
            unit = 1 if sys.platform == 'darwin' else 1024
            ended.append(Ended(process.returncode, usage.ru_maxrss * unit))
            stop()
        return ended[0]

    def stop() -> None:
        if process.stdin and not process.stdin.closed:
            process.stdin.close()

    def kill() -> None:
        process.kill()
        latest = time.monotonic() + _PATIENCE_S
        while poll() is None and time.monotonic() < latest:
            time.sleep(0.01)

    return Handle(poll, stop, kill)
