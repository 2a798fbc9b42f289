"""Running a plan: what ends how, what is tried again, and what a later sweep continues."""

import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from jaxpolicy.io import workdir
from jaxpolicy.sweeps import driver, engine, outcome, plan, result, status
from tests.sweeps import engines

NEVER = types.SimpleNamespace(received=False)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(driver, '_WAIT_S', 0.0)


def learns(*values):
    def end(job):
        engines.write_rows(job.workdir, values)
        return 0

    return end


def fails(text, exit_status=1):
    def end(job):
        (job.workdir / engine.LOG).write_text(f'first\n{text}\n')
        return exit_status

    return end


def by_name(folder):
    return {found.name: found for found in result.read(folder)}


def test_a_run_gives_its_flags_and_its_result(tmp_path):
    fake = engines.Engine({'a3': [learns(None, [0.5, 0.25], None, [0.25, np.nan])]})
    report = driver.run_all(
        tmp_path, engines.alone([engines.planned('a', (3, 4))]), fake.engine, NEVER, ['--x']
    )
    assert report == driver.Report(1, 0, False)
    assert fake.started == [
        (
            'a3',
            [
                *('train', '--config=configs/smoke/ppo.py', '--config.agent.gamma=0.9'),
                *(f'--workdir={tmp_path}/runs/a3', '--seed=3', '--num_seeds=2'),
                *('--num_devices=1', '--x'),
            ],
        )
    ]
    (found,) = result.read(tmp_path)
    assert found.status == 'finished' and found.seeds == [3, 4]
    assert found.scores == [0.25, None] and found.best == [0.5, 0.25]
    assert [entry['env_steps'] for entry in found.curve] == [200, 400]
    assert [entry['values'] for entry in found.curve] == [[0.5, 0.25], [0.25, None]]
    assert (found.budget, found.num_episodes, found.device) == (400, 7, '1 x x')
    assert (found.train_s, found.compile_s, found.eval_s) == (8.0, 1.0, 1.0)
    assert found.memory_bytes == 1_000 and found.error == ''


def test_a_failing_run_is_tried_once_more_and_others_go_on(tmp_path, capsys):
    ends = {
        'bad0': [fails('ValueError: no longer finite'), fails('ValueError: no longer finite')],
        'odd0': [fails('Boom: once'), learns([0.5])],
    }
    fake = engines.Engine(ends)
    runs = [engines.planned(name) for name in ('bad', 'odd', 'good')]
    report = engines.run_alone(tmp_path, runs, fake.engine, NEVER)
    assert report == driver.Report(2, 1, False)
    assert sorted(name for name, _ in fake.started) == ['bad0', 'bad0', 'good0', 'odd0', 'odd0']
    found = by_name(tmp_path)
    assert found['bad'].status == 'failed'
    assert found['bad'].error.splitlines() == [
        'numbers that are not finite',
        'first',
        'ValueError: no longer finite',
    ]
    assert found['odd'].status == found['good'].status == 'finished'
    assert found['odd'].error == '' and found['good'].scores == [None]
    out = capsys.readouterr().out
    assert 'odd, seed 0: failed and is tried again: exit status 1' in out
    assert 'ValueError: no longer finite' in out


def test_runs_that_share_a_program_end_each_for_itself(tmp_path, capsys):
    runs = [engines.planned(x) for x in 'abcd']
    places = {run.name: tmp_path / run.workdir for run in runs}

    def train_three(job):
        assert job.arguments[:3] == ['train_together', f'--workdir={tmp_path}', '--runs=a0,b0,c0']
        for name, rounds in (('a', 4), ('b', 2), ('c', 4)):
            engines.write_rows(places[name], [[0.5]] * rounds)
        log = f'{places["a"]}: fine\n{places["b"]}: the loss is no longer finite in round 2\n'
        (job.workdir / 'log.txt').write_text(log)
        return 0

    def fail(job):
        assert job.arguments[0] == 'train'  # it is tried again alone
        return 3

    def finish(job):
        engines.write_rows(job.workdir, [[0.5]] * 4)
        return 0

    fake = engines.Engine({'a0': [train_three], 'b0': [fail], 'd0': [finish]})
    report = driver.run_all(tmp_path, [runs[:3], runs[3:]], fake.engine, NEVER)
    assert report == driver.Report(3, 1, False)
    assert [name for name, _ in fake.started] == ['a0', 'd0', 'b0']
    statuses = {one.name: one.status for one in result.read(tmp_path)}
    assert statuses == dict.fromkeys('acd', 'finished') | {'b': 'failed'}
    assert 'b, seed 0: failed and is tried again: numbers that are not finite' in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ('text', 'exit_status', 'kind'),
    [
        ('XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory', 1, 'out of memory'),
        ('train: error: expected less work at once, found too little memory:', 1, 'out of memory'),
        ('', -signal.SIGKILL, 'killed (SIGKILL), as by a system that is out of memory'),
        ('', -signal.SIGSEGV, 'killed (SIGSEGV)'),
        ('KeyError: 1', 1, 'exit status 1'),
    ],
)
def test_failures_have_names(tmp_path, text, exit_status, kind):
    run = engines.planned('a')
    (tmp_path / run.workdir).mkdir(parents=True)
    (tmp_path / run.workdir / engine.LOG).write_text(text)
    assert (
        outcome.why_failed(
            tmp_path, run, exit_status, tmp_path / run.workdir / 'log.txt'
        ).splitlines()[0]
        == kind
    )


def test_the_same_sweep_again_runs_what_is_left(tmp_path):
    runs = [engines.planned(name) for name in ('done', 'killed', 'failed', 'new')]
    for run, how in zip(runs, ('finished', 'running', 'failed'), strict=False):
        result.write(tmp_path, outcome.collect(tmp_path, run, how))
    left = driver.missing(tmp_path, runs)
    assert [run.name for run in left] == ['killed', 'failed', 'new']
    renamed = runs[0]._replace(name='agent.gamma=0.9', changes={'agent.gamma': 0.95})
    assert driver.missing(tmp_path, [renamed]) == []
    assert by_name(tmp_path)['agent.gamma=0.9'].changes == {'agent.gamma': 0.95}


def test_a_recipe_that_changes_under_a_sweep_is_told(tmp_path):
    """The results would be those of another config than the plan says."""

    def end(job):
        engines.write_rows(job.workdir, [[1.0]], {'eval': {'num_episodes': 8}})
        return 0

    fake = engines.Engine({'a0': [end, end]})
    assert (
        driver.run_all(
            tmp_path, engines.alone([engines.planned('a')]), fake.engine, NEVER
        ).num_failed
        == 1
    )
    assert 'configs/smoke/ppo.py was changed after the plan' in result.read(tmp_path)[0].error


def test_unsound_metrics_of_one_run_stop_no_other(tmp_path):
    def end(job):
        (job.workdir / 'metrics.jsonl').write_text('x\n{}\n')
        return 1

    fake = engines.Engine({'a0': [end, end]})
    runs = [engines.planned('a'), engines.planned('b')]
    assert engines.run_alone(tmp_path, runs, fake.engine, NEVER) == driver.Report(1, 1, False)
    found = by_name(tmp_path)
    assert 'metrics.jsonl, line 1: not JSON' in found['a'].error and not found['b'].error


def test_slots_are_used_and_never_exceeded(tmp_path):
    fake = engines.Engine(num_slots=2)
    driver.run_all(
        tmp_path, engines.alone([engines.planned(x) for x in 'abcde']), fake.engine, NEVER
    )
    assert len(fake.started) == 5 and fake.most == 2


def test_a_stopped_sweep_waits_for_its_runs_and_starts_no_more(tmp_path):
    request = types.SimpleNamespace(received=False)

    def end(job):
        request.received = True
        return 0

    fake = engines.Engine({'a0': [end], 'b0': [None]}, num_slots=2)
    runs = [engines.planned(x) for x in 'abcd']
    report = engines.run_alone(tmp_path, runs, fake.engine, request)
    assert report == driver.Report(1, 0, True) and fake.killed == 0
    found = by_name(tmp_path)
    assert found.pop('a').status == 'finished'
    assert {x.status for x in found.values()} == {'running'} and 'd' not in found
    assert [run.name for run in driver.missing(tmp_path, runs)] == ['b', 'c', 'd']


def test_a_lost_run_goes_on_and_that_is_no_failure_of_its_own(tmp_path, capsys):
    def lost_after(num_rounds):
        def end(job):
            engines.write_rows(job.workdir, [None] * num_rounds)
            return 'the machine was lost'

        return end

    further = [lost_after(rounds) for rounds in (0, 0, 0, 0, 1, 1, 1, 1, 2)]
    fake = engines.Engine({'a0': [*further, fails('Boom: once'), learns([0.5])]})
    assert engines.run_alone(tmp_path, [engines.planned('a')], fake.engine, NEVER).num_finished == 1
    assert len(fake.started) == 11
    out = capsys.readouterr().out
    assert out.count('a, seed 0: lost, and goes on elsewhere: the machine was lost') == 9


def test_a_run_that_is_always_lost_before_its_next_round_fails(tmp_path):
    fake = engines.Engine({'a0': [lambda job: 'out of power'] * 50})
    assert engines.run_alone(tmp_path, [engines.planned('a')], fake.engine, NEVER).num_failed == 1
    assert len(fake.started) == 6
    (found,) = result.read(tmp_path)
    assert found.error.startswith('lost 5 times without a further round: out of power')


def test_jobs_that_are_there_are_not_started_again_and_others_start_together(tmp_path):
    runs = [engines.planned(name) for name in 'abcd']
    fake = engines.Engine(num_slots=4, there=['b0'])
    held = workdir.lock(tmp_path / runs[1].workdir)  # its job has it
    engines.write_rows(tmp_path / runs[1].workdir, [])
    assert engines.run_alone(tmp_path, runs, fake.engine, NEVER).num_finished == 4
    os.close(held)
    assert [name for name, _ in fake.started] == ['a0', 'c0', 'd0'] and fake.batches[0] == 3
    assert by_name(tmp_path)['b'].memory_bytes == 2_000


def test_a_sweep_that_breaks_leaves_no_process(tmp_path):
    def breaks(job):
        raise KeyboardInterrupt

    fake = engines.Engine({'a0': [breaks], 'b0': [None]}, num_slots=2)
    with pytest.raises(KeyboardInterrupt):
        driver.run_all(
            tmp_path, engines.alone([engines.planned(x) for x in 'ab']), fake.engine, NEVER
        )
    assert fake.killed >= 1


def test_a_workdir_that_another_process_has_is_waited_for(tmp_path, capsys):
    run, other = engines.planned('a'), engines.planned('b')
    held = workdir.lock(tmp_path / run.workdir)

    def end(job):
        os.close(held)
        return 0

    fake = engines.Engine({'b0': [end]})
    assert engines.run_alone(tmp_path, [run, other], fake.engine, NEVER).num_finished == 2
    assert [name for name, _ in fake.started] == ['b0', 'a0']
    assert capsys.readouterr().err.count('a, seed 0: waiting:') == 1


_CHILD = """
import signal, sys, time
from jaxpolicy.sweeps import worker
count = []
signal.signal(signal.SIGTERM, lambda *_: count.append(1))
worker.end_with_input()
print('ready', flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.2)
open(sys.argv[1], 'w').write('saved' * len(count))
"""
_PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, '-c', {_CHILD!r}, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
print(child.stdout.readline().decode(), flush=True)
time.sleep(60)
"""


def test_runs_save_and_stop_when_their_sweep_is_killed(tmp_path):
    saved = tmp_path / 'saved'
    command = [sys.executable, '-c', _PARENT, str(saved)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == 'ready\n'
        parent.kill()
        for _ in range(2000):
            if saved.exists() and saved.read_text():
                break
            time.sleep(0.01)
    assert saved.read_text() == 'saved'


@pytest.mark.parametrize('num_signals', [0, 2])
def test_a_signal_that_an_engine_blocks_waits_until_the_job_is_stopped(tmp_path, num_signals):
    """Slurm sends signals to all processes of a job, and a second one would end it unsaved."""
    saved = tmp_path / 'saved'
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = subprocess.Popen(
        [sys.executable, '-c', _CHILD, str(saved)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with child:
        assert child.stdout is not None and child.stdout.readline() == b'ready\n'
        for _ in range(num_signals):
            child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert child.poll() is None and not saved.exists()
        assert child.stdin is not None
        child.stdin.close()
    assert saved.read_text() == 'saved'


def test_local_processes_say_how_they_ended(tmp_path, monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    where = engine.local(1)
    job = engine.Job(['no_such_command'], tmp_path / 'run')
    handle = where.start(job, 0)
    while not (ended := handle.poll()):
        time.sleep(0.01)
    assert ended.status == 1 and ended.memory_bytes and ended.memory_bytes > 1_000_000
    assert "expected a command, found 'no_such_command'" in (job.workdir / engine.LOG).read_text()
    assert handle.poll() == ended
    handle.stop()


def test_each_process_has_one_gpu_and_never_more_than_there_are(monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', '')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,5')
    assert engine.gpus() == ['2', '5'] and engine.local().num_slots == 2
    with pytest.raises(ValueError, match='--workers: expected at most 2, one for each GPU, found'):
        engine.local(3)
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    monkeypatch.setattr(engine, '_cores', lambda: 5)
    assert engine.gpus() == [] and engine.local().num_slots == 2
    with pytest.raises(ValueError, match='--workers: expected at most 5, one for each core, found'):
        engine.local(6)


def test_the_table_says_how_far_each_run_is(tmp_path):
    runs = [engines.planned(x) for x in ('done', 'half', 'new')]
    plan.write(tmp_path, runs)
    engines.write_rows(tmp_path / runs[0].workdir, [None, None, None, [0.75]])
    engines.write_rows(tmp_path / runs[1].workdir, [None, [0.25]])
    result.write(tmp_path, outcome.collect(tmp_path, runs[0], 'finished'))
    result.write(tmp_path, outcome.collect(tmp_path, runs[1], 'running'))
    done, half, new = status.of_all(tmp_path)
    assert (done.status, done.done, done.score) == ('finished', 4, 0.75)
    assert (half.status, half.done, half.score) == ('interrupted', 2, 0.25)  # no sweep runs
    assert half.left_s == 4.5 and new == status.Status(runs[2], 'waiting', 0, None, None)
    descriptor = workdir.lock(tmp_path)
    assert status.of_all(tmp_path)[1].status == 'running'
    os.close(descriptor)
    lines = status.table(status.of_all(tmp_path), width=60).splitlines()
    assert lines[2].split() == ['half', '0', 'running', '2/4', '4', 's', 'success_max', '0.25']
    assert lines[-1] == '3 runs: 1 running, 1 waiting, 1 finished'
    assert max(map(len, lines)) <= 60


def test_a_low_terminal_shows_what_matters_most():
    runs = [engines.planned(f'run{i}') for i in range(50)]
    found = [status.Status(run, 'finished', 4, None, 1.0) for run in runs]
    found[40] = found[40]._replace(status='running', done=1)
    lines = status.table(found, width=50, height=8).splitlines()
    assert len(lines) <= 8 and 'run40' in '\n'.join(lines) and '... and 46 more' in lines
    assert max(map(len, lines)) <= 50


def test_a_folder_without_a_plan_is_one_line(tmp_path):
    with pytest.raises(ValueError, match='expected the folder of a sweep, found no plan.json'):
        status.of_all(tmp_path)
