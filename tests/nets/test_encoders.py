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
        'joints': np.arange(size * 3, dtype=np.float32).reshape(*lead, 3),
        'goal': 100 + np.arange(size, dtype=np.float32).reshape(lead),
        'map': 200 + np.arange(size * 4, dtype=np.float32).reshape(*lead, 2, 2),
    }


def test_encode_joins_the_leaves_in_the_trees_order():
    flat = encoders.encode(_obs(2), OBS_SPEC)
    assert encoders.size(OBS_SPEC) == 8
    # keys are sorted: goal, joints, map
    np.testing.assert_array_equal(flat[1], [101, 3, 4, 5, 204, 205, 206, 207])
    assert encoders.encode(_obs(), OBS_SPEC).shape == (8,)
    assert encoders.encode(_obs(4, 5), OBS_SPEC).shape == (4, 5, 8)
    array = np.ones((4, 3), np.float32)
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
    net = critics.Critics(2, (8,))
    critic = encoders.Encoded(net, view)
    action = jax.ShapeDtypeStruct((2,), jnp.float32)
    obs, actions = _obs(4, 5), np.ones((4, 5, 2), np.float32)

    @jax.jit
    def both(key, obs):
        params, own = critic.init(key, action), net.init(key, jnp.zeros((1, 3)), jnp.zeros((1, 2)))
        expected = net.apply(own, obs['joints'], actions)
        return (params, own), critic.apply(params, obs, actions), expected

    params, found, expected = both(jax.random.key(0), obs)
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert found.shape == (2, 4, 5, 1)
    np.testing.assert_array_equal(found, expected)


def test_a_network_of_histories_sees_them_as_one_vector():
    net = mlp.MLP((8,), 2)
    actor = encoders.Encoded(net, OBS_SPEC, num_obs=3)
    obs = jax.tree.map(lambda x: np.float32(0.01) * x, _obs(5, 3))

    @jax.jit
    def both(key, obs):
        params, own = actor.init(key), net.init(key, jnp.zeros((1, 24)))
        expected = net.apply(own, encoders.encode(obs, OBS_SPEC).reshape(5, 24))
        return (params, own), actor.apply(params, obs), expected

    params, found, expected = both(jax.random.key(0), obs)
    jax.tree.map(np.testing.assert_array_equal, *params)
    np.testing.assert_array_equal(found, expected)
