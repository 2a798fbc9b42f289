"""The directory of a run: whose it is, and that it stays so."""

import json
import math
import os
import subprocess
import sys

import pytest
from ml_collections import config_dict

from jaxpolicy.io import workdir


def _config(**changes):
    agent = {'learning_rate': 3e-4, 'hidden': (256, 256), 'clip': None} | changes
    return config_dict.ConfigDict({'agent': agent, 'num_epochs': 3}).lock()


def _prepare(directory, seed=0, upgrade=lambda record: record, fresh=False, **changes):
    workdir.prepare(directory, _config(**changes), seed, upgrade=upgrade, fresh=fresh)


def test_config_round_trip_with_versions(tmp_path):
    _prepare(tmp_path / 'a' / 'b', seed=4)
    record = workdir.load_record(tmp_path / 'a' / 'b')
    loaded = workdir.from_json(record['config'])
    assert loaded.to_dict() == _config().to_dict()
    assert isinstance(loaded.agent.hidden, tuple)
    assert record == json.loads((tmp_path / 'a' / 'b' / workdir.CONFIG_FILE).read_text())
    assert {'jax', 'flax', 'optax', 'mujoco', 'python', 'platform', 'device'} <= set(
        record['versions']
    )
    assert record['versions']['python'].startswith(f'{sys.version_info.major}.')
    assert record['seed'] == 4 and record['format'] == workdir.FORMAT
    assert workdir.load_num_seeds(tmp_path / 'a' / 'b') == 1


def test_the_same_run_may_come_back_and_another_may_not(tmp_path):
    _prepare(tmp_path)
    before = (tmp_path / workdir.CONFIG_FILE).read_bytes()
    _prepare(tmp_path)
    with pytest.raises(ValueError) as error:
        _prepare(tmp_path, seed=1, learning_rate=1e-3, hidden=(256,), extra=True)
    assert str(error.value).splitlines()[1:] == [
        '  (seed): 0 -> 1',
        '  agent.extra: (absent) -> true',
        '  agent.hidden: [256, 256] -> [256]',
        '  agent.learning_rate: 0.0003 -> 0.001',
    ]
    assert (tmp_path / workdir.CONFIG_FILE).read_bytes() == before
    _prepare(tmp_path, seed=1, fresh=True, learning_rate=1e-3)
    assert workdir.load_record(tmp_path)['config']['agent']['learning_rate'] == 1e-3
    assert [path.name for path in tmp_path.iterdir()] == [workdir.CONFIG_FILE]


def test_a_run_of_an_older_version_may_come_back(tmp_path):
    """What is there is compared as this version reads it, and stays as it was written."""

    def upgrade(record):
        agent = {**record['config']['agent'], 'extra': True}
        return {**record, 'config': {**record['config'], 'agent': agent}}

    _prepare(tmp_path)
    before = (tmp_path / workdir.CONFIG_FILE).read_bytes()
    _prepare(tmp_path, upgrade=upgrade, extra=True)
    with pytest.raises(ValueError, match='agent.extra: true -> false'):
        _prepare(tmp_path, upgrade=upgrade, extra=False)
    assert (tmp_path / workdir.CONFIG_FILE).read_bytes() == before


def test_bad_directories(tmp_path):
    with pytest.raises(ValueError, match='expected a run, found no config.json'):
        workdir.load_record(tmp_path)
    path = tmp_path / workdir.CONFIG_FILE
    path.write_text('{')
    with pytest.raises(ValueError, match='not JSON'):
        workdir.load_record(tmp_path)
    path.write_text('{"config": {}}')
    with pytest.raises(ValueError, match="expected a key 'seed'"):
        workdir.load_record(tmp_path)


_HOLD = """
import sys
from jaxpolicy.io import workdir
try:
    workdir.lock(sys.argv[1])
except ValueError as error:
    sys.exit(str(error))
"""


def _lock_elsewhere(path):
    return subprocess.run(
        [sys.executable, '-c', _HOLD, str(path)], capture_output=True, text=True, timeout=120
    )


def test_one_process_at_a_time(tmp_path):
    descriptor = workdir.lock(tmp_path)
    refused = _lock_elsewhere(tmp_path)
    assert refused.returncode == 1
    assert f'in use by another process (pid {os.getpid()} on' in refused.stderr
    os.close(descriptor)
    assert _lock_elsewhere(tmp_path).returncode == 0


def test_git_state_is_that_of_the_checkout():
    state = workdir.git_state()
    if state is None:
        pytest.skip('the package does not run from a git checkout')
    assert len(state['commit']) == 40 and isinstance(state['dirty'], bool)


def test_a_config_with_a_number_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match='learning_rate: expected a finite number, found'):
        _prepare(tmp_path, learning_rate=float('nan'))
    assert not (tmp_path / workdir.CONFIG_FILE).exists()


def test_other_files_have_null_for_such_a_number(tmp_path):
    workdir.write_json(tmp_path / 'a.json', {'low': [-math.inf, 1.0], 'n': math.nan})
    assert json.loads((tmp_path / 'a.json').read_text()) == {'low': [None, 1.0], 'n': None}
