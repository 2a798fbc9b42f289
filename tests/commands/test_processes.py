"""Two processes on this machine make one program, each with half of the environments."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.runs import program
from tests import quick
from tests.runs import integrator

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('loop', ['a2c', pytest.param('ppo', marks=pytest.mark.slow)])
def test_two_processes_train_as_one_does(loop, tmp_path):
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, '-m', 'tests.commands.two_processes', str(port)]
    env = {**os.environ, 'XLA_FLAGS': quick.XLA_FLAGS}  # one device in each process
    workers = [
        subprocess.Popen(
            [*command, str(i), str(tmp_path), loop],
            cwd=ROOT,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=240)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    records = [json.loads((tmp_path / f'{i}.json').read_text()) for i in range(2)]
    assert records[0]['metrics'] == records[1]['metrics']

    alone = program.make(integrator.loop(loop), seed=0, num_seeds=1)
    state, _ = alone.step(alone.init(), ())
    halves = [np.array(record['obs']) for record in records]
    assert [len(half) for half in halves] == [4, 4]
    assert not np.allclose(*halves)  # each process has environments of its own
    np.testing.assert_allclose(np.concatenate(halves), state.env.obs, rtol=1e-4, atol=1e-4)
    state, _ = alone.step(state, ())
    _, metrics = alone.step(state, ())
    for name, value in metrics.items():
        np.testing.assert_allclose(
            records[0]['metrics'][name], value, rtol=1e-3, atol=1e-4, err_msg=name
        )
