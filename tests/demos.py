"""Fixtures: files of demonstrations for tests of runs, commands and studies."""

import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib


@pytest.fixture(scope='session')
def demos(tmp_path_factory):
    """Random episodes of the pendulum's shapes, in a file."""
    return _save(tmp_path_factory.mktemp('demos') / 'demos.npz', 3, 1)


@pytest.fixture(scope='session')
def detour_demos(tmp_path_factory):
    """The same of detour's."""
    return _save(tmp_path_factory.mktemp('detour') / 'demos.npz', 34, 7)


@pytest.fixture(scope='session')
def line_demos(tmp_path_factory):
    """The same of the line's, tests.commands.line."""
    return _save(tmp_path_factory.mktemp('line') / 'demos.npz', 2, 1)


def _save(path, obs_size, action_size):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(64, obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, size=(64, action_size)).astype(np.float32)
    episodes_lib.save(path, episodes_lib.Episodes(obs, action, np.arange(16, 65, 16), {}))
    return path
