"""What the tests of experiments share."""

import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib


@pytest.fixture(scope='session')
def demos(tmp_path_factory):
    """Random episodes of detour's shapes, in a file."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(64, 34)).astype(np.float32)
    action = rng.uniform(-1, 1, size=(64, 7)).astype(np.float32)
    path = tmp_path_factory.mktemp('demos') / 'demos.npz'
    episodes_lib.save(path, episodes_lib.Episodes(obs, action, np.arange(16, 65, 16), {}))
    return path
