"""Run by test_processes.py, once in each of two processes: three updates, saved and resumed.

python -m tests.commands.two_processes PORT PROCESS_ID DIRECTORY LOOP
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint
from jaxpolicy.runs import program
from tests.runs import integrator


def main(port: str, process_id: int, directory: Path, loop: str) -> None:
    sharding.initialize(f'localhost:{port}', 2, process_id)
    mesh = sharding.make_mesh()
    assert jax.process_count() == 2 and mesh.size == len(jax.devices()) == 2
    compiled = program.make(integrator.loop(loop), seed=0, num_seeds=1, mesh=mesh)
    state, _ = compiled.step(compiled.init(), ())
    mine = [np.asarray(s.data) for s in state.env.obs.addressable_shards]
    state, _ = compiled.step(state, ())
    with checkpoint.open_manager(directory / 'checkpoints') as manager:
        checkpoint.save(manager, 2, state, {'step': 2})
        restored, meta = checkpoint.restore(manager, 2, compiled.template)
    assert meta == {'step': 2}
    _, metrics = compiled.step(restored, ())
    found = {name: float(value) for name, value in jax.device_get(metrics).items()}
    record = {'metrics': found, 'obs': np.concatenate(mine).tolist()}
    (directory / f'{process_id}.json').write_text(json.dumps(record))


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
