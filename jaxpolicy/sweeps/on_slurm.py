"""Runs as jobs of Slurm, through the library submitit. They go on when the sweep is killed."""

import contextlib
import math
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxpolicy.sweeps import engine, slurm_job

FOLDER = 'slurm'  # in the folder of the sweep: the tickets, and what submitit writes
_MOST_JOBS = 1000  # in the queue and running, without --workers
_MOST_TIMEOUTS = 1000  # after each of them a job goes on, and the sweep gives up what stands still
_DEFAULT_MIN = 4 * 60
_WAIT_S = 60.0  # after Slurm accepted nothing
_LOOK_S = {'slurm': 5.0, 'local': 0.5}  # between two looks at a job
_FORCE_S = 10.0  # between two questions to Slurm while jobs are to end
_RESULT_S = 15.0  # after a job's end, until its result has reached this machine
_TEXTS = ('partition', 'account', 'qos', 'constraint', 'gres', 'exclude', 'nodelist', 'mem')
_TEXTS += ('mem_per_cpu', 'mem_per_gpu', 'comment')
_NUMBERS = ('gpus_per_node', 'cpus_per_task', 'cpus_per_gpu', 'array_parallelism', 'signal_delay_s')
_KEYS = ('cluster', 'time', *_TEXTS, *_NUMBERS)


class Request(NamedTuple):
    """What `--slurm` asks for.

    cluster: 'slurm'; or 'local', processes of this machine that submitit starts, to try it out.
    minutes: of each job, until it saves and is put in the queue again.
    others: further options of sbatch, with underscores, such as {'partition': 'gpu'}.
    """

    cluster: str
    minutes: int
    others: dict[str, Any]


def parse(text: str) -> Request:
    """Reads 'partition=gpu time=04:00:00 gpus_per_node=1'.

    Raises:
      ValueError: a key is unknown or given twice, or a value is not of its kind.
    """
    given: dict[str, str] = {}
    for word in text.split():
        key, _, value = word.partition('=')
        if key not in _KEYS:
            raise ValueError(f'--slurm: expected keys among {", ".join(_KEYS)}, found {key!r}')
        if not value or key in given:
            raise ValueError(f'--slurm: {key}: expected one value, found {text!r}')
        given[key] = value
    cluster = given.pop('cluster', 'slurm')
    if cluster not in _LOOK_S:
        raise ValueError(f"--slurm: cluster: expected 'slurm' or 'local', found {cluster!r}")
    minutes = _minutes(given.pop('time')) if 'time' in given else _DEFAULT_MIN
    others: dict[str, Any] = dict(given)
    for key in _NUMBERS:
        if key in given:
            if not given[key].isdecimal():
                raise ValueError(f'--slurm: {key}: expected a whole number, found {given[key]!r}')
            others[key] = int(given[key])
    return Request(cluster, minutes, others)


def _minutes(text: str) -> int:
    """Minutes of a time as sbatch reads it: 90, 04:00:00, 2-12 or 2-12:30."""
    found = re.fullmatch(r'(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?', text)
    if not found:
        raise ValueError(f'--slurm: time: expected D-HH:MM:SS or minutes, found {text!r}')
    days, first, second, third = (int(part or 0) for part in found.groups())
    hours_first = found.group(1) is not None or found.group(4) is not None
    hours, minutes, seconds = (first, second, third) if hours_first else (0, first, second)
    total = math.ceil(((days * 24 + hours) * 60 + minutes) + seconds / 60)
    if total < 1:
        raise ValueError(f'--slurm: time: expected a minute or more, found {text!r}')
    return total


def check() -> None:
    """Raises an ImportError, which names the extra, where submitit is not installed."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"--engine=slurm needs submitit: pip install 'jaxpolicy[slurm]' ({error})"
        ) from error


def make(folder: Path, request: Request, num_workers: int = 0) -> engine.Engine:
    """An engine whose jobs are those of Slurm; with cluster=local, processes that submitit starts.

    Args:
      folder: of the sweep, which all machines see.
      num_workers: jobs in the queue and running at once; 0: 1000, or one with cluster=local.

    Raises:
      ValueError: there is no Slurm.
    """
    most = {'slurm': _MOST_JOBS, 'local': 1}[request.cluster]
    queue = _Queue(folder / FOLDER, request)
    return engine.Engine(num_workers or most, queue.start, queue.attach, queue.at_once)


def _executor(folder: Path, request: Request):
    import submitit

    if request.cluster == 'local':
        executor = submitit.LocalExecutor(folder, _MOST_TIMEOUTS)
        executor.update_parameters(timeout_min=request.minutes, **request.others)
        return executor
    try:
        executor = submitit.SlurmExecutor(folder, _MOST_TIMEOUTS)
    except RuntimeError as error:
        raise ValueError(
            '--engine=slurm: expected a machine with the commands of Slurm, found none; '
            "--slurm='cluster=local' tries it out without"
        ) from error
    name = f'sweep-{folder.parent.name}'
    executor.update_parameters(time=request.minutes, job_name=name, **request.others)
    return executor


class _Submission:
    """A job of this sweep or an earlier one; submitted: submitit's, or None while it waits."""

    def __init__(self, job: engine.Job, ticket: Path, submitted: Any = None, is_over: Any = None):
        self.job, self.ticket, self.submitted, self.is_over = job, ticket, submitted, is_over
        self.token = uuid.uuid4().hex
        self.ended: engine.Ended | None = None
        self.is_stopping, self.looked_s, self.over_s = False, -math.inf, math.inf


class _Queue:
    """Submits jobs and says how they ended. The tickets say what is whose."""

    def __init__(self, folder: Path, request: Request):
        self._folder, self._cluster = folder.absolute(), request.cluster
        self._executor = _executor(self._folder / 'jobs', request)
        self._waiting: list[_Submission] = []
        self._accepts, self._try_s, self._forced_s = False, -math.inf, -math.inf

    def start(self, job: engine.Job, slot: int) -> engine.Handle:
        """The job is submitted when `together` ends."""
        del slot
        submission = _Submission(job, self._ticket(job))
        self._waiting.append(submission)
        return self._handle(submission)

    def attach(self, job: engine.Job) -> engine.Handle | None:
        ticket = slurm_job.read(self._ticket(job))
        if not (ticket.token and ticket.job_id and ticket.cluster == self._cluster):
            return None
        place, self._accepts = self._ticket(job), True
        submitted = self._executor.job_class(self._executor.folder, ticket.job_id)
        is_over = submitted.done
        if self._cluster == 'local':  # submitit knows only the processes that it started itself

            def is_over(force_check: bool = False) -> bool:
                return submitted.paths.result_pickle.exists() or not slurm_job.is_running(place)

        return self._handle(_Submission(job, place, submitted, is_over))

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        yield
        if self._waiting and time.monotonic() >= self._try_s:
            self._submit()

    def _submit(self) -> None:
        """Submits what waits, as one array of jobs."""
        trainings = []
        for each in self._waiting:
            slurm_job.write(each.ticket, slurm_job.Ticket(each.token))
            trainings.append(slurm_job.Training(each.job, each.ticket, each.token))
        try:
            jobs = self._executor.submit_array(trainings)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            if not self._accepts:
                raise ValueError(
                    f'--slurm: expected what sbatch accepts, found: {reason}'
                ) from error
            print(f'sbatch: {reason}; tried again in {_WAIT_S:.0f} s', file=sys.stderr, flush=True)
            self._try_s = time.monotonic() + _WAIT_S
            return
        self._accepts = True
        for each, submitted in zip(self._waiting, jobs, strict=True):
            each.submitted, each.is_over = submitted, submitted.done
            slurm_job.write(
                each.ticket, slurm_job.Ticket(each.token, self._cluster, submitted.job_id)
            )
        self._waiting.clear()

    def _handle(self, submission: _Submission) -> engine.Handle:
        def poll() -> engine.Ended | None:
            now = time.monotonic()
            if not submission.ended and now - submission.looked_s >= _LOOK_S[self._cluster]:
                submission.looked_s = now
                self._look(submission)
            return submission.ended

        return engine.Handle(poll, lambda: self._stop(submission), lambda: self._kill(submission))

    def _look(self, submission: _Submission) -> None:
        if submission.submitted is None:
            return
        force = submission.is_stopping and time.monotonic() - self._forced_s > _FORCE_S
        if force:
            self._forced_s = time.monotonic()
        if not submission.is_over(force_check=force):
            return
        submission.over_s = min(submission.over_s, time.monotonic())
        late = submission.is_stopping or time.monotonic() - submission.over_s > _RESULT_S
        if late or submission.submitted.paths.result_pickle.exists():
            submission.ended = _ended(submission)
            slurm_job.write(submission.ticket, slurm_job.Ticket(''))

    def _stop(self, submission: _Submission) -> None:
        submission.is_stopping = True
        slurm_job.write(submission.ticket, slurm_job.Ticket(''))
        if submission in self._waiting:
            self._waiting.remove(submission)
            submission.ended = engine.Ended(1, None, 'it was not submitted')
        elif (
            self._cluster == 'slurm' and not submission.ended
        ):  # a job that runs sees that its ticket is withdrawn
            subprocess.call(['scancel', '--state=PENDING', submission.submitted.job_id])

    def _kill(self, submission: _Submission) -> None:
        self._stop(submission)
        if submission.submitted and not submission.ended:
            submission.submitted.cancel(check=False)

    def _ticket(self, job: engine.Job) -> Path:
        return self._folder / f'{job.workdir.name}.json'


def _ended(submission: _Submission) -> engine.Ended:
    """How a job ended that is over, from its result or from what Slurm says."""
    submitted = submission.submitted
    if submitted.paths.result_pickle.exists():
        try:
            return engine.Ended(*submitted.result())
        except RuntimeError as error:  # of submitit: what runs around the training broke
            text = str(error)
    elif 'OUT_OF_ME' in submitted.state:
        text = f'Slurm: out of memory: job {submitted.job_id}'
    else:
        said = (submitted.stderr() or '').strip().splitlines()[-1:]
        reason = ': '.join([f'job {submitted.job_id}', submitted.state, *said])
        return engine.Ended(1, None, reason)
    submission.job.workdir.mkdir(parents=True, exist_ok=True)
    with (submission.job.workdir / engine.LOG).open('a') as log:
        log.write(f'\n{text}\n')
    return engine.Ended(1, None)
