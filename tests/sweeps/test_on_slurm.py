"""The engine of Slurm: what is asked for, and that no run is trained twice."""

import os
import signal
import time
import types

import pytest

from jaxpolicy.io import engine_flags, workdir
from jaxpolicy.sweeps import engine, engine_choice, on_slurm, slurm_job


@pytest.mark.parametrize(
    ('text', 'minutes'),
    [('90', 90), ('04:00:00', 240), ('2-12', 3600), ('1-0:30', 1470), ('2:30', 3), ('0:10:01', 11)],
)
def test_times_are_those_of_sbatch(text, minutes):
    assert on_slurm.parse(f'time={text}').minutes == minutes


def test_options_of_sbatch_are_read():
    found = on_slurm.parse('partition=gpu gpus_per_node=1 mem=16GB cpus_per_task=4')
    others = {'partition': 'gpu', 'gpus_per_node': 1, 'mem': '16GB', 'cpus_per_task': 4}
    assert found == on_slurm.Request('slurm', 240, others)
    assert on_slurm.parse('cluster=local') == on_slurm.Request('local', 240, {})


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('partion=gpu', r"--slurm: expected keys among cluster, time, .*, found 'partion'"),
        ('partition', '--slurm: partition: expected one value'),
        ('mem=1GB mem=2GB', '--slurm: mem: expected one value'),
        ('gpus_per_node=one', "--slurm: gpus_per_node: expected a whole number, found 'one'"),
        ('time=soon', "--slurm: time: expected D-HH:MM:SS or minutes, found 'soon'"),
        ('time=0', '--slurm: time: expected a minute or more'),
        ('cluster=mine', "--slurm: cluster: expected 'slurm' or 'local', found 'mine'"),
    ],
)
def test_a_mistake_names_the_key(text, message):
    with pytest.raises(ValueError, match=message):
        on_slurm.parse(text)


@pytest.mark.parametrize('name', ['submitit', 'ray'])
def test_a_missing_library_is_one_line_with_the_extra(name, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, name, None)
    kind = 'slurm' if name == 'submitit' else 'ray'
    with pytest.raises(ImportError, match=rf"--engine={kind} needs .*'jaxpolicy\[{kind}\]'"):
        engine_choice.check(engine_flags.Chosen(engine=kind))


class _Submitted:
    """A job of the executor below, as submitit has it."""

    def __init__(self, folder, job_id):
        self.job_id, self.state, self.cancelled = job_id, 'RUNNING', False
        self.paths = types.SimpleNamespace(result_pickle=folder / f'{job_id}.result')

    def done(self, force_check=False):
        return self.state != 'RUNNING'

    def result(self):
        return 0, 5_000

    def stderr(self):
        return 'first\nthe node failed\n'

    def cancel(self, check):
        self.cancelled = True


class _Executor:
    job_class = _Submitted

    def __init__(self, folder):
        self.folder, self.arrays, self.error = folder, [], None

    def submit_array(self, trainings):
        if self.error:
            raise self.error
        self.arrays.append(trainings)
        number = len(self.arrays)
        return [_Submitted(self.folder, f'{number}_{i}') for i in range(len(trainings))]


@pytest.fixture
def executor(tmp_path, monkeypatch):
    made = _Executor(tmp_path)
    monkeypatch.setattr(on_slurm, '_executor', lambda folder, request: made)
    monkeypatch.setattr(on_slurm, '_LOOK_S', {'slurm': 0.0, 'local': 0.0})
    monkeypatch.setattr(on_slurm, '_RESULT_S', -1.0)
    monkeypatch.setattr(on_slurm.subprocess, 'call', lambda command: None)
    return made


def _jobs(tmp_path, names):
    return [engine.Job(['train'], tmp_path / 'runs' / name) for name in names]


def _make(tmp_path):
    return on_slurm.make(tmp_path, on_slurm.parse(''))


def _start(where, jobs):
    with where.at_once():
        return [where.start(job, slot) for slot, job in enumerate(jobs)]


def _ticket(tmp_path, name):
    return tmp_path / on_slurm.FOLDER / f'{name}.json'


def test_what_starts_together_is_one_array_with_a_ticket_each(tmp_path, executor):
    handles = _start(_make(tmp_path), _jobs(tmp_path, 'ab'))
    (array,) = executor.arrays
    tickets = [slurm_job.read(_ticket(tmp_path, name)) for name in 'ab']
    assert len(array) == 2 and [ticket.job_id for ticket in tickets] == ['1_0', '1_1']
    assert len({ticket.token for ticket in tickets}) == 2
    assert [handle.poll() for handle in handles] == [None, None]


def test_a_later_sweep_attaches_to_what_is_queued_runs_or_has_ended(tmp_path, executor):
    (job,) = _jobs(tmp_path, 'a')
    _start(_make(tmp_path), [job])
    later = _make(tmp_path)
    handle = later.attach(job)
    assert handle and handle.poll() is None and len(executor.arrays) == 1
    (tmp_path / '1_0.result').touch()
    executor.job_class = lambda folder, job_id: _ended(_Submitted(folder, job_id))
    third = _make(tmp_path)
    handle = third.attach(job)
    assert handle and handle.poll() == engine.Ended(0, 5_000)
    assert third.attach(job) is None  # it is known how this one ended


def _ended(submitted, state='COMPLETED'):
    submitted.state = state
    return submitted


def test_a_job_that_ends_without_a_result_is_lost_and_slurm_says_why(tmp_path, executor):
    (job,) = _jobs(tmp_path, 'a')
    _start(_make(tmp_path), [job])
    executor.job_class = lambda folder, job_id: _ended(_Submitted(folder, job_id), 'NODE_FAIL')
    handle = _make(tmp_path).attach(job)
    assert handle
    assert handle.poll() == engine.Ended(1, None, 'job 1_0: NODE_FAIL: the node failed')


def test_a_job_that_took_too_much_memory_has_failed(tmp_path, executor):
    (job,) = _jobs(tmp_path, 'a')
    _start(_make(tmp_path), [job])
    executor.job_class = lambda folder, job_id: _ended(_Submitted(folder, job_id), 'OUT_OF_MEMORY')
    handle = _make(tmp_path).attach(job)
    assert handle and handle.poll() == engine.Ended(1, None)
    assert 'out of memory' in (job.workdir / engine.LOG).read_text()


def test_a_stopped_job_loses_its_ticket_and_nobody_attaches_to_it(tmp_path, executor):
    (job,) = _jobs(tmp_path, 'a')
    where = _make(tmp_path)
    (handle,) = _start(where, [job])
    handle.stop()
    assert slurm_job.read(_ticket(tmp_path, 'a')).token == '' and where.attach(job) is None
    assert handle.poll() is None  # until it has saved


def test_slurm_that_refuses_the_first_job_is_one_line_and_later_ones_wait(
    tmp_path, executor, capsys
):
    first, second = _jobs(tmp_path, 'ab')
    executor.error = RuntimeError('sbatch: error: invalid partition')
    with pytest.raises(ValueError, match='--slurm: expected what sbatch accepts, .*invalid part'):
        _start(_make(tmp_path), [first])
    executor.error, where = None, _make(tmp_path)
    _start(where, [first])
    executor.error = RuntimeError('sbatch: error: Socket timed out')
    (handle,) = _start(where, [second])
    assert handle.poll() is None and 'tried again in 60 s' in capsys.readouterr().err
    handle.stop()
    ended = handle.poll()
    assert ended and ended.lost == 'it was not submitted'


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A `Training`, its ticket and a record of its process, which ends when it is stopped."""
    monkeypatch.setattr(slurm_job, '_LOOK_S', 0.0)
    record = types.SimpleNamespace(started=0, stopped=0, then=lambda: None)

    def process(job, environment, blocked):
        assert signal.SIGTERM in blocked and signal.SIGUSR2 in blocked
        record.started += 1

        def poll():
            if record.stopped:
                return engine.Ended(1, 7)
            record.then()
            return None

        def stop():
            record.stopped += 1

        return engine.Handle(poll, stop, stop)

    monkeypatch.setattr(engine, 'process', process)
    before = signal.getsignal(signal.SIGTERM)
    (job,) = _jobs(tmp_path, 'a')
    ticket = tmp_path / 'a.json'
    slurm_job.write(ticket, slurm_job.Ticket('mine', 'slurm', '3'))
    yield slurm_job.Training(job, ticket, 'mine'), ticket, record
    signal.signal(signal.SIGTERM, before)


def test_a_job_trains_while_its_ticket_is_valid(training):
    train, ticket, record = training

    def withdraw():
        assert slurm_job.is_running(ticket)
        slurm_job.write(ticket, slurm_job.Ticket('', 'slurm'))

    record.then = withdraw
    assert train() == (1, 7) and record.started == 1
    assert train() == (1, None) and record.started == 1  # as after Slurm put it in the queue again


def test_a_job_whose_time_is_too_short_for_a_round_is_given_up(training):
    pytest.importorskip('submitit', reason='the extra slurm is not installed')
    train, _, _ = training
    file = train._job.workdir / 'metrics.jsonl'
    file.parent.mkdir(parents=True)
    for text in ('a', 'ab', 'ab', 'a', 'ab', 'ab'):
        file.write_text(text)
        submission = train.checkpoint()
        train = submission.function
    assert train.checkpoint() is None


def test_a_job_of_a_sweep_that_was_killed_before_it_noted_it_does_not_train(training):
    train, ticket, record = training
    slurm_job.write(ticket, slurm_job.Ticket('of another'))
    assert train() == (1, None) and record.started == 0


def test_a_job_that_slurm_ends_saves_and_has_no_result(training):
    """So Slurm may run it again, and the sweep sees that it was lost."""
    train, _, record = training
    record.then = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        train()
    assert record.stopped


def test_a_real_job_says_how_it_ended(tmp_path):
    pytest.importorskip('submitit', reason='the extra slurm is not installed')
    where = on_slurm.make(tmp_path, on_slurm.parse('cluster=local time=5'), 1)
    job = engine.Job(['no_such_command'], tmp_path / 'runs' / 'a')
    (handle,) = _start(where, [job])
    while not (ended := handle.poll()):
        time.sleep(0.05)
    assert ended.status == 1 and ended.memory_bytes and not ended.lost
    assert "expected a command, found 'no_such_command'" in (job.workdir / engine.LOG).read_text()
    os.close(workdir.lock(slurm_job._place(_ticket(tmp_path, 'a'))))
