"""One loop as one program: many seeds, many devices, the same numbers.

Each program is compiled once: two seeds are 0 and 1, and one seed is 1.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sharding
from jaxpolicy.loops import off_policy_host
from jaxpolicy.runs import program
from tests.runs import integrator

LOOPS = {'on_policy': integrator.loop, 'off_policy': integrator.replay_loop}
both = pytest.mark.parametrize('loop', sorted(LOOPS))


@functools.cache
def compiled(loop, num_seeds, num_devices=1):
    mesh = sharding.make_mesh(num_devices) if num_devices > 1 else None
    return program.make(LOOPS[loop](), seed=2 - num_seeds, num_seeds=num_seeds, mesh=mesh)


@functools.cache
def first_round(loop, num_seeds):
    """State and metrics after a step on one device."""
    one = compiled(loop, num_seeds)
    return jax.device_get(one.step(one.init(), ()))


def assert_close(wanted, found, tolerance):
    wanted, found = (
        jax.tree.map(
            lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
            tree,
        )
        for tree in (wanted, found)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), wanted, found
    )


@both
def test_seed_i_of_many_is_its_run_alone(loop):
    state, metrics = first_round(loop, 2)
    wanted, wanted_metrics = first_round(loop, 1)
    assert_close(wanted, jax.tree.map(lambda x: x[1], state), 1e-4)
    assert_close(wanted_metrics, jax.tree.map(lambda x: x[1], metrics), 1e-3)
    first = jax.tree.leaves(state.train.params)[0]
    assert not np.allclose(first[0], first[1])


# The shardings of one and of two seeds, and those of both loops; not all four in `make test`.
EIGHT = [('on_policy', 1), ('off_policy', 2)]
SLOW = [pytest.param('on_policy', 2, marks=pytest.mark.slow)]
SLOW += [pytest.param('off_policy', 1, marks=pytest.mark.slow)]


@pytest.mark.parametrize(('loop', 'num_seeds'), EIGHT + SLOW)
def test_eight_devices_make_the_update_of_one(loop, num_seeds):
    wanted, wanted_metrics = first_round(loop, num_seeds)
    eight = compiled(loop, num_seeds, 8)
    state, metrics = eight.step(eight.init(), ())
    assert len(state.env.reward.sharding.device_set) == 8
    assert not state.env.reward.sharding.is_fully_replicated
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.train))
    assert_close(wanted, jax.device_get(state), 1e-4)
    assert_close(wanted_metrics, jax.device_get(metrics), 1e-3)
    again, _ = eight.step(state, ())  # the shardings are kept, so nothing is compiled again
    assert eight.step._cache_size() == 1
    assert again.env.reward.sharding == eight.template.env.reward.sharding


@both
def test_environments_that_do_not_divide_are_refused(loop):
    with pytest.raises(ValueError, match='num_envs: expected a multiple of the 3 devices'):
        compiled(loop, 1, 3)


def test_a_buffer_on_the_host_changes_nothing():
    wanted = compiled('off_policy', 1)
    host = integrator.replay_loop(off_policy_host.make)
    found = program.on_host(host, integrator.replay_loop(), seed=1)
    wanted_state, state = wanted.init(), found.init()
    for _ in range(2):
        wanted_state, wanted_metrics = wanted.step(wanted_state, ())
        state, metrics = found.step(state, ())
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, found.template)
    assert_close(wanted_state, state, 1e-4)
    assert_close(wanted_metrics, metrics, 1e-3)
