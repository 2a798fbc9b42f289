"""Runs on the machines of a Ray cluster, which places them and notices when a machine is lost."""

import contextlib
import math
import os
import re
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxpolicy.sweeps import engine

LOCAL = 'local'  # the address of a cluster of this machine, which ends with the sweep
_INHERITED = ('JAX_', 'XLA_', 'MUJOCO_', 'PYTHONPATH')  # environment variables a run has from here
_LOOK_S = 0.2  # between two looks at a process
_GPU_SHARE = 0.9  # of a GPU's memory, for all runs that share it


def check(address: str) -> None:
    """Checks what can be checked before a cluster is asked.

    Raises:
      ImportError: Ray is not installed; the message names the extra.
      ValueError: `address` is none that `opened` takes.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"--engine=ray needs Ray: pip install 'jaxpolicy[ray]' ({error})"
        ) from error
    if address not in (LOCAL, 'auto') and not re.fullmatch(r'[^/]+:\d+', address):
        raise ValueError(
            f"--ray_address: expected 'local', 'auto' or 'host:port', found {address!r}"
        )


@contextlib.contextmanager
def opened(
    address: str = LOCAL,
    num_workers: int = 0,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Iterator[engine.Engine]:
    """An engine whose jobs are tasks of Ray. They end with this process.

    Args:
      address: 'auto' or 'host:port' of a cluster; `LOCAL` starts one.
      num_workers: how many jobs are given to Ray at once; 0: as many as the cluster has room for.
      num_cpus: of each job; None: one with a GPU, and two without, if a machine has two.
      num_gpus: of each job, perhaps a part of one; None: one where the cluster has any.

    Raises:
      ValueError: there is no such cluster, or none of its machines has room for a job.
    """
    import ray

    options: dict[str, Any] = {} if address != LOCAL else {'include_dashboard': False}
    try:
        with warnings.catch_warnings():  # its processes are new programs, which JAX does not mind
            warnings.filterwarnings('ignore', r'os\.fork\(\) was called', RuntimeWarning)
            ray.init(address, log_to_driver=False, logging_level='WARNING', **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        found = str(error).strip().splitlines()[0]
        raise ValueError(
            f'--ray_address: expected a cluster of Ray, found none at {address}: {found}'
        ) from error
    try:
        nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
        if num_gpus is None:
            num_gpus = float(any(node.get('GPU') for node in nodes))
        if num_cpus is None:
            most = max((node.get('CPU', 0) for node in nodes), default=0)
            num_cpus = 1 if num_gpus else max(1, min(2, most))
        room = sum(_room(node, num_cpus, num_gpus) for node in nodes)
        if not room:
            raise ValueError(_no_room(nodes, num_cpus, num_gpus))
        task = ray.remote(_train).options(
            num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0, scheduling_strategy='SPREAD'
        )
        yield engine.Engine(num_workers or room, lambda job, slot: _start(task, job, num_gpus))
    finally:
        ray.shutdown()


def _room(node: dict[str, float], num_cpus: float, num_gpus: float) -> int:
    """How many jobs a machine with these resources has room for at once."""
    wanted = {'CPU': num_cpus, 'GPU': num_gpus}
    fitting = [node.get(name, 0) / number for name, number in wanted.items() if number]
    return math.floor(min(fitting) + 1e-6)


def _no_room(nodes: Sequence[dict[str, float]], num_cpus: float, num_gpus: float) -> str:
    found = ', '.join(f'{node.get("CPU", 0):g} and {node.get("GPU", 0):g}' for node in nodes)
    return (
        f'--cpus_per_run and --gpus_per_run: expected a machine of the cluster with {num_cpus:g} '
        f'CPUs and {num_gpus:g} GPUs for each run, found machines with {found}'
    )


def _environment(num_gpus: float) -> dict[str, str]:
    """Environment variables of a job, besides those of the machine that it runs on."""
    given = {name: text for name, text in os.environ.items() if name.startswith(_INHERITED)}
    if not num_gpus:
        given |= {'CUDA_VISIBLE_DEVICES': ''}
    if 0 < num_gpus < 1:  # JAX would take the memory of the others
        given = {'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{_GPU_SHARE * num_gpus:.3f}'} | given
    return given


def _start(task, job: engine.Job, num_gpus: float) -> engine.Handle:
    import ray

    reference = task.remote(job.arguments, str(job.workdir), os.getcwd(), _environment(num_gpus))
    ended: list[engine.Ended] = []

    def poll() -> engine.Ended | None:
        if not ended and ray.wait([reference], timeout=0)[0]:
            ended.append(_ended(job, reference))
        return ended[0] if ended else None

    def kill() -> None:
        ray.cancel(reference, force=True)

    return engine.Handle(poll, lambda: ray.cancel(reference), kill)


def _ended(job: engine.Job, reference) -> engine.Ended:
    """How a task ended, from its result or from why it has none."""
    import ray

    try:
        return engine.Ended(*ray.get(reference))
    except (ray.exceptions.OutOfMemoryError, ray.exceptions.RayTaskError) as error:
        # Ray ended what took too much memory; or the machine cannot run the task at all.
        what = 'out of memory' if isinstance(error, ray.exceptions.OutOfMemoryError) else 'error'
        job.workdir.mkdir(parents=True, exist_ok=True)
        with (job.workdir / engine.LOG).open('a') as log:
            log.write(f'\nRay: {what}: {error}\n')
        return engine.Ended(1, None)
    except ray.exceptions.RayError as error:
        words = str(error).strip().partition('\n')[0].partition(' This can happen')[0]
        return engine.Ended(1, None, f'{type(error).__name__}: {words}')


def _train(
    arguments: list[str], workdir: str, folder: str, environment: dict[str, str]
) -> tuple[int, int | None]:
    """The exit status and the memory of a job. It runs in a process of Ray, on its machine.

    Args:
      folder: the current folder of the sweep; the job has the same.
    """
    # A cluster that a script started in the background ignores it, and with it `ray.cancel`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    handle = engine.process(engine.Job(arguments, Path(workdir)), {**os.environ, **environment})
    while True:
        try:
            if ended := handle.poll():
                return ended.status, ended.memory_bytes
            time.sleep(_LOOK_S)
        except KeyboardInterrupt:  # how Ray cancels a task
            handle.stop()
