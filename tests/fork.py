"""Runs a program of experiments/ as `python -m` does, without waiting for its imports.

They take longer than most of the tests' runs. So a server imports them once and forks a process for
each run, which then does what a new interpreter does: its own arguments, environment, output and
exit status. JAX reads XLA_FLAGS when it is first used, which is after the fork.

The server says nothing of a name that it cannot import: tests/commands/test_fork.py does.
"""

import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests import quick

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ('stdout', 'stderr')
OURS = (
    *('agents.bc', 'agents.diffusion_policy', 'agents.iql', 'agents.ppo', 'agents.sac'),
    *('envs.tasks.detour_expert', 'envs.tasks.pendulum', 'envs.tasks.pusht', 'envs.tasks.reach'),
    *('io.flags', 'io.report', 'io.summary', 'loops.collect', 'loops.evaluate'),
    *('runs.action_labels', 'runs.dagger', 'runs.demonstrators', 'runs.evaluation', 'runs.kinds'),
    *('runs.launch', 'runs.offline_rl', 'runs.saved', 'runs.upgrade'),
)
THEIRS = ('absl.app', 'chex', 'matplotlib.pyplot', 'orbax.checkpoint', 'tensorboardX')
PRELOAD = (*(f'jaxpolicy.{name}' for name in OURS), *THEIRS)
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(list(PRELOAD))


class Result(NamedTuple):
    """Like subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


class Process:
    """`python -m experiments.MODULE ARGUMENTS` on one device, as users have.

    site: a folder of installed packages, if any besides those that are here.
    xla_flags: those of this process give its devices, and find what it has compiled in the cache.
    """

    def __init__(self, module, *arguments, site=None, xla_flags=quick.XLA_FLAGS):
        self._folder = Path(tempfile.mkdtemp())
        self._process = SERVER.Process(  # a daemon: it does not outlive the tests
            target=_main, args=(module, arguments, self._folder, site, xla_flags), daemon=True
        )
        self._process.start()

    def poll(self):
        """The exit status, or None."""
        return self._process.exitcode

    def send_signal(self, number):
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout):
        """The result; a process that takes longer than `timeout` seconds is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        returncode = self._process.exitcode
        assert returncode is not None
        out, err = ((self._folder / name).read_text() for name in OUTPUTS)
        shutil.rmtree(self._folder)
        return Result(returncode, out, err)


def run(module, *arguments, timeout=300, **options):
    return Process(module, *arguments, **options).wait(timeout)


def _main(module, arguments, folder, site, xla_flags):
    """In the forked process."""
    for descriptor, name in enumerate(OUTPUTS, start=1):
        with open(folder / name, 'wb') as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(ROOT)
    if site:
        sys.path.insert(0, str(site))
    os.environ['XLA_FLAGS'] = xla_flags
    sys.argv = [module, *map(str, arguments)]
    runpy.run_module(f'experiments.{module}', run_name='__main__', alter_sys=True)
