import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import train_state
from jaxpolicy.agents import transforms
from jaxpolicy.ops import normalize
from jaxpolicy.types import Agent, Transition, memoryless

SPEC = jax.ShapeDtypeStruct((1,), jnp.float32)


def _mirror() -> Agent:
    """An agent whose metrics are what it is taught."""

    def init(key):
        del key
        return train_state.create({}, {})

    def update(state, batch, key):
        del key
        return state, {'obs': batch.obs, 'next_obs': batch.next_obs}

    return Agent(init, update, lambda *_: memoryless(lambda obs, key: (obs, {})))


@pytest.mark.parametrize('kind', ['fixed', 'running'])
def test_both_ends_of_a_transition_are_normalised(kind):
    obs = jnp.asarray([[[3.0], [7.0]]])  # mean 5, deviation 2
    ones = jnp.ones((1, 2))
    batch = Transition(obs, ones, ones, ones, ones, obs + 2.0, {'valid': ones})
    if kind == 'fixed':
        affine = normalize.Affine(jnp.asarray([5.0]), jnp.asarray([2.0]))
        agent = transforms.normalize_obs(_mirror(), affine)
        state = agent.init(jax.random.key(0))
    else:
        agent = transforms.standardize_replay(_mirror(), SPEC)
        state = agent.observe(agent.init(jax.random.key(0)), batch)
    _, seen = agent.update(state, batch, jax.random.key(0))
    np.testing.assert_allclose(seen['obs'][..., 0], [[-1.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(seen['next_obs'][..., 0], [[0.0, 2.0]], rtol=1e-6, atol=1e-6)
