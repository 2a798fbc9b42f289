import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.nets import critics, encoders, mlp

OBS_SPEC = {
    'joints': jax.ShapeDtypeStruct((3,), jnp.float32),
    'goal': jax.ShapeDtypeStruct((), jnp.float32),
    'map': jax.ShapeDtypeStruct((2, 2), jnp.float32),
}


def _obs(*lead):
    size = int(np.prod(lead, dtype=int))
    return {
        'joints': jnp.arange(size * 3.0).reshape(*lead, 3),
        'goal': 100.0 + jnp.arange(float(size)).reshape(lead),
        'map': 200.0 + jnp.arange(size * 4.0).reshape(*lead, 2, 2),
    }


def test_encode_joins_the_leaves_in_the_trees_order():
    flat = encoders.encode(_obs(2), OBS_SPEC)
    assert encoders.size(OBS_SPEC) == 8
    # keys are sorted: goal, joints, map
    np.testing.assert_array_equal(flat[1], [101, 3, 4, 5, 204, 205, 206, 207])
    assert encoders.encode(_obs(), OBS_SPEC).shape == (8,)
    assert encoders.encode(_obs(4, 5), OBS_SPEC).shape == (4, 5, 8)
    array = jnp.ones((4, 3))
    np.testing.assert_array_equal(encoders.encode(array, OBS_SPEC['joints']), array)


def test_encode_history_puts_older_observations_first():
    history = encoders.encode_history(_obs(5, 2), OBS_SPEC)
    assert history.shape == (5, 16)
    steps = encoders.encode(_obs(5, 2), OBS_SPEC)
    np.testing.assert_array_equal(history[3], np.concatenate([steps[3, 0], steps[3, 1]]))


def test_a_view_is_of_the_entries_that_are_asked_for():
    assert encoders.view(OBS_SPEC, 'actor_obs', ()) is OBS_SPEC
    view = encoders.view(OBS_SPEC, 'actor_obs', ('goal', 'joints'))
    np.testing.assert_array_equal(encoders.encode(_obs(2), view)[1], [101, 3, 4, 5])
    with pytest.raises(ValueError, match=r"agent.actor_obs: expected keys of .*found \['camera'\]"):
        encoders.view(OBS_SPEC, 'actor_obs', ('camera',))
    with pytest.raises(ValueError, match=r'agent.actor_obs: expected \(\), as observations are no'):
        encoders.view(OBS_SPEC['map'], 'actor_obs', ('map',))


def test_a_network_behind_its_view_has_the_networks_own_parameters():
    view = encoders.view(OBS_SPEC, 'critic_obs', ('joints',))
    net, key = critics.Critics(2, (8,)), jax.random.key(0)
    critic = encoders.Encoded(net, view)
    action = jax.ShapeDtypeStruct((2,), jnp.float32)
    params = critic.init(key, action)
    own = net.init(key, jnp.zeros((1, 3)), jnp.zeros((1, 2)))
    jax.tree.map(np.testing.assert_array_equal, params, own)
    obs, actions = _obs(4, 5), jnp.ones((4, 5, 2))
    found = critic.apply(params, obs, actions)
    assert found.shape == (2, 4, 5, 1)
    np.testing.assert_array_equal(found, net.apply(own, obs['joints'], actions))


def test_a_network_of_histories_sees_them_as_one_vector():
    net, key = mlp.MLP((8,), 2), jax.random.key(0)
    actor = encoders.Encoded(net, OBS_SPEC, num_obs=3)
    params = actor.init(key)
    jax.tree.map(np.testing.assert_array_equal, params, net.init(key, jnp.zeros((1, 24))))
    obs = jax.tree.map(lambda x: 0.01 * x, _obs(5, 3))
    expected = net.apply(params, encoders.encode(obs, OBS_SPEC).reshape(5, 24))
    np.testing.assert_array_equal(actor.apply(params, obs), expected)
