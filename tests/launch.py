"""Runs a program of experiments/ as `python -m` does, without waiting for its imports.

They take longer than most of the tests' runs. So a server imports them once and forks a process for
each run, which then does what a new interpreter does: its own arguments, environment, output and
exit status. JAX reads XLA_FLAGS when it is first used, which is after the fork.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests import quick

ROOT = Path(__file__).resolve().parents[1]
_SERVER = multiprocessing.get_context('forkserver')
_SERVER.set_forkserver_preload(
    [f'experiments.{name}' for name in ('demonstrations', 'program', 'summary', 'training')]
)


class Result(NamedTuple):
    """Like subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


class Process:
    """`python -m experiments.MODULE ARGUMENTS` on one device, as users have."""

    def __init__(self, module, *arguments):
        self._output = [tempfile.NamedTemporaryFile() for _ in range(2)]
        files = [file.name for file in self._output]
        self._process = _SERVER.Process(target=_main, args=(module, arguments, files))
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
        out, err = (file.read().decode() for file in self._output)
        for file in self._output:
            file.close()
        return Result(returncode, out, err)


def run(module, *arguments, timeout=300):
    return Process(module, *arguments).wait(timeout)


def _main(module, arguments, files):
    """In the forked process."""
    for descriptor, name in enumerate(files, start=1):
        file = os.open(name, os.O_WRONLY)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(ROOT)
    os.environ['XLA_FLAGS'] = quick.XLA_FLAGS
    sys.argv = [module, *map(str, arguments)]
    runpy.run_module(f'experiments.{module}', run_name='__main__', alter_sys=True)
