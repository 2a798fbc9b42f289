"""The engine of Ray: how jobs end on a cluster of three nodes, of which one is lost."""

import _thread
import os
import signal
import sys
import time
import types
from pathlib import Path

import pytest

from jaxpolicy.io import checkpoint, engine_flags, metrics
from jaxpolicy.sweeps import building, driver, engine, on_ray, plan, result
from jaxpolicy.sweeps.definition import Sweep
from tests import fork
from tests.sweeps import engines

ROOT = Path(__file__).resolve().parents[2]
NEVER = types.SimpleNamespace(received=False)


def test_runs_that_share_a_gpu_share_its_memory(monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
    assert on_ray._environment(0.5)['XLA_PYTHON_CLIENT_MEM_FRACTION'] == '0.450'
    assert on_ray._environment(0.5)['JAX_PLATFORMS'] == 'cuda'
    assert 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in on_ray._environment(1.0)
    assert on_ray._environment(0)['CUDA_VISIBLE_DEVICES'] == ''


def test_how_many_runs_fit_is_counted_for_each_machine():
    assert on_ray._room({'CPU': 8, 'GPU': 2}, 1, 0.5) == 4
    assert on_ray._room({'CPU': 3, 'GPU': 2}, 2, 1) == 1
    assert on_ray._room({'GPU': 2}, 1, 1) == on_ray._room({'CPU': 3}, 1, 1) == 0
    assert on_ray._room({'CPU': 0.3}, 0.1, 0) == 3


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--gpus_per_run=0.5'], '--gpus_per_run: expected --engine=ray with it, found local'),
        (['--slurm=time=5', '--engine=ray'], '--slurm: expected --engine=slurm with it, found ray'),
        (['--engine=slum'], "--engine: expected one of local|slurm|ray, found 'slum'"),
    ],
)
def test_flags_of_another_engine_are_refused(tmp_path, flags, message):
    config = '--config=configs/smoke/ppo.py'
    found = fork.run('sweep', config, *flags, f'--workdir={tmp_path}/sweep')
    assert found.returncode and message in found.stderr and found.stderr.count('\n') == 1
    assert not (tmp_path / 'sweep').exists() and engine_flags.Chosen().engine == 'local'


def test_an_address_that_is_none_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', types.ModuleType('ray'))
    on_ray.check('auto'), on_ray.check('10.0.0.1:6379')
    with pytest.raises(ValueError, match="--ray_address: expected 'local', 'auto' or 'host:port'"):
        on_ray.check('ray://10.0.0.1:10001')


def test_a_task_that_ray_cancels_saves_even_where_interrupts_were_ignored(tmp_path, monkeypatch):
    """As they are in what a script starts in the background."""
    stopped, looks = [], []

    def process(job, environment):
        def poll():
            looks.append(1)
            if len(looks) > 20:
                return engine.Ended(0, None)
            if not stopped:
                _thread.interrupt_main()  # as Ray does
            return engine.Ended(1, 7) if stopped else None

        return engine.Handle(poll, lambda: stopped.append(1), lambda: None)

    monkeypatch.setattr(engine, 'process', process)
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert on_ray._train(['train'], str(tmp_path), str(tmp_path), {}) == (1, 7)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped == [1]


@pytest.fixture(scope='module')
def cluster():
    """A cluster of three nodes with a CPU each, and the nodes besides the head."""
    pytest.importorskip('ray', reason='the extra ray is not installed')
    os.environ['RAY_AUTH_MODE'] = 'disabled'
    from ray.cluster_utils import Cluster

    head = {'num_cpus': 1, 'num_gpus': 0, 'include_dashboard': False}
    made = Cluster(initialize_head=True, head_node_args=head)
    nodes = [made.add_node(num_cpus=1, num_gpus=0) for _ in range(2)]
    yield made, nodes
    made.shutdown()


@pytest.mark.slow
def test_a_job_says_how_it_ended_and_one_that_fits_nowhere_is_refused(tmp_path, cluster):
    made, _ = cluster
    job = engine.Job(['no_such_command'], tmp_path / 'run')
    with on_ray.opened(made.address) as where:
        assert where.num_slots == 3
        handle = where.start(job, 0)
        while not (ended := handle.poll()):
            time.sleep(0.05)
    assert ended.status == 1 and ended.memory_bytes and not ended.lost
    assert "expected a command, found 'no_such_command'" in (job.workdir / engine.LOG).read_text()
    with pytest.raises(
        ValueError, match='a machine of the cluster with 2 CPUs and 0 GPUs for each'
    ):
        on_ray.opened(made.address, num_cpus=2).__enter__()


@pytest.mark.slow
def test_the_runs_of_a_node_that_is_lost_go_on_and_nothing_is_trained_twice(
    tmp_path, cluster, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    made, nodes = cluster
    changes = ('loop.num_env_steps=3200', 'checkpoint.every=5')
    sweep = Sweep(('configs/smoke/ppo.py',), grid='agent.gamma=0.9,0.95,0.97', overrides=changes)
    planned = plan.plan(plan.variants(sweep), sweep, {}, building.Builder().build)
    plan.write(tmp_path, planned)

    to_lose = nodes[:1]
    folders = [tmp_path / run.workdir / 'checkpoints' for run in planned]

    def sleep(seconds):
        """Removes a node once all runs have a checkpoint."""
        wait(seconds)
        if to_lose and not any(map(checkpoint.is_empty, folders)):
            made.remove_node(to_lose.pop(), allow_graceful=False)

    wait = time.sleep
    clock = types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(driver, 'time', clock)
    with on_ray.opened(made.address) as where:
        report = engines.run_alone(tmp_path, planned, where, NEVER, ['--novideo'])
    assert report == driver.Report(3, 0, False)
    assert capsys.readouterr().out.count('lost, and goes on elsewhere: NodeDiedError') == 1
    assert [found.status for found in result.read(tmp_path)] == ['finished'] * 3
    for run in planned:
        rounds = [row['round'] for row in metrics.read(tmp_path / run.workdir)]
        assert rounds == list(range(1, run.num_rounds + 1))
    logs = [(tmp_path / run.workdir / engine.LOG).read_text() for run in planned]
    assert sum('continuing after update' in log for log in logs) == 1
