import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy import train_state

POWER = 0.75


def _setup():
    params = {'actor': {'w': jnp.asarray([1.0, 2.0])}, 'critic': {'w': jnp.asarray([5.0])}}
    txs = {'actor': optax.sgd(0.1, momentum=0.9), 'critic': optax.sgd(1.0)}
    return params, txs, train_state.create(params, txs, target_params=params)


def test_a_new_state_is_at_step_zero_and_holds_arrays_only():
    params, _, state = _setup()
    assert state.step == 0 and state.step.dtype == jnp.int32 and state.stats == {}
    assert set(state.opt_state) == {'actor', 'critic'}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    np.testing.assert_array_equal(state.target_params['actor']['w'], params['actor']['w'])
    bare = train_state.create(params, {})
    assert bare.opt_state == {} and bare.target_params == {}


def test_an_optimiser_of_nothing_is_refused():
    params, txs, _ = _setup()
    with pytest.raises(ValueError, match=r"unknown networks \['crtic'\].*'actor', 'critic'"):
        train_state.create(params, {'actor': txs['actor'], 'crtic': txs['critic']})


def test_only_the_networks_with_gradients_move():
    params, txs, state = _setup()
    grads = {'actor': {'w': jnp.asarray([1.0, -1.0])}}
    new = train_state.apply_gradients(state, txs, grads)
    np.testing.assert_allclose(new.params['actor']['w'], [0.9, 2.1], rtol=1e-6)
    new = train_state.apply_gradients(new, txs, grads)  # momentum: 0.1 (1 + 0.9)
    np.testing.assert_allclose(new.params['actor']['w'], [0.71, 2.29], rtol=1e-6)
    assert new.params['critic'] is params['critic']
    assert new.opt_state['critic'] is state.opt_state['critic']
    assert new.step == 0
    np.testing.assert_array_equal(new.target_params['actor']['w'], params['actor']['w'])
    np.testing.assert_array_equal(state.params['actor']['w'], [1.0, 2.0])  # not mutated


def test_polyak():
    found = train_state.polyak({'w': jnp.asarray([0.0, 8.0])}, {'w': jnp.asarray([4.0, 0.0])}, 0.25)
    np.testing.assert_allclose(found['w'], [1.0, 6.0])


def test_ema_decay_warms_up_and_is_capped():
    decay = [float(train_state.ema_decay(jnp.asarray(k), POWER)) for k in (0, 1, 15, 10**7)]
    np.testing.assert_allclose(decay, [0.0, 1 - 2**-0.75, 1 - 0.125, 0.9999], rtol=1e-6)


def test_the_ema_averages_the_updated_networks():
    _, txs, state = _setup()
    txs = {'critic': txs['critic']}
    grads = {'critic': {'w': jnp.asarray([1.0])}}  # 5, 4, 3, 2...
    first = train_state.apply_gradients_ema(state, txs, grads, POWER)
    np.testing.assert_allclose(first.target_params['critic']['w'], [4.0])  # the first updated one
    second = train_state.apply_gradients_ema(first, txs, grads, POWER)
    np.testing.assert_allclose(second.params['critic']['w'], [3.0])
    expected = 4.0 + 2**-0.75 * (3.0 - 4.0)
    np.testing.assert_allclose(second.target_params['critic']['w'], [expected], rtol=1e-6)
    assert second.step == 2
    actor = second.target_params['actor']['w']
    np.testing.assert_array_equal(actor, state.target_params['actor']['w'])
