"""Arms that MuJoCo itself moves, which needs no compilation, for tests of the tasks around them."""

import contextlib

import pytest

from jaxpolicy.envs.physics import backends, stepping


@contextlib.contextmanager
def arms():
    """Within it, tasks are made with such arms; physics/test_arm.py compares them with MJX's."""

    def make_step(model, num_substeps):
        engine = backends.make(model, num_substeps, 'native')

        def step(qpos, qvel, ctrl, overrides=None):
            state = engine.step(engine.start(qpos, qvel), ctrl, overrides)
            return state.qpos, state.qvel

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping, 'make_step', make_step)
        yield
