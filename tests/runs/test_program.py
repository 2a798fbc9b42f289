"""One loop as one program: many seeds, many devices, the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sharding
from jaxpolicy.loops import off_policy_host
from jaxpolicy.runs import program
from tests.runs import integrator


@pytest.fixture(scope='module', params=['on_policy', 'off_policy'])
def loop(request):
    return integrator.loop() if request.param == 'on_policy' else integrator.replay_loop()


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


def test_seed_i_of_many_is_its_run_alone(loop):
    many = program.make(loop, seed=5, num_seeds=3)
    state, metrics = many.step(many.init(), ())
    alone = program.make(loop, seed=7, num_seeds=1)
    wanted, wanted_metrics = alone.step(alone.init(), ())
    assert_close(wanted, jax.tree.map(lambda x: x[2], state), 1e-4)
    assert_close(wanted_metrics, jax.tree.map(lambda x: x[2], metrics), 1e-3)
    first = jax.tree.leaves(state.train.params)[0]
    assert not np.allclose(first[0], first[1])


@pytest.mark.parametrize('num_seeds', [1, 2])
def test_eight_devices_make_the_update_of_one(loop, num_seeds):
    one = program.make(loop, seed=0, num_seeds=num_seeds)
    wanted, wanted_metrics = one.step(one.init(), ())
    eight = program.make(loop, seed=0, num_seeds=num_seeds, mesh=sharding.make_mesh(8))
    state, metrics = eight.step(eight.init(), ())
    assert len(state.env.reward.sharding.device_set) == 8
    assert not state.env.reward.sharding.is_fully_replicated
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.train))
    assert_close(wanted, jax.device_get(state), 1e-4)
    assert_close(wanted_metrics, jax.device_get(metrics), 1e-3)
    again, _ = eight.step(state, ())  # the shardings are kept, so nothing is compiled again
    assert eight.step._cache_size() == 1
    assert again.env.reward.sharding == eight.template.env.reward.sharding


def test_environments_that_do_not_divide_are_refused(loop):
    with pytest.raises(ValueError, match='num_envs: expected a multiple of the 3 devices'):
        program.make(loop, seed=0, num_seeds=1, mesh=sharding.make_mesh(3))


def test_a_buffer_on_the_host_changes_nothing():
    traced = integrator.replay_loop()
    wanted = program.make(traced, seed=3, num_seeds=1)
    found = program.on_host(integrator.replay_loop(off_policy_host.make), traced, seed=3)
    wanted_state, state = wanted.init(), found.init()
    for _ in range(2):
        wanted_state, wanted_metrics = wanted.step(wanted_state, ())
        state, metrics = found.step(state, ())
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, found.template)
    assert_close(wanted_state, state, 1e-4)
    assert_close(wanted_metrics, metrics, 1e-3)
