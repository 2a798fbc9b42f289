import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import drifting
from jaxpolicy.types import Chunk, Spec
from tests import acting

SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
CONFIG = {
    'network': 'mlp',
    'obs_horizon': 1,
    'pred_horizon': 1,
    'action_horizon': 1,
    'width': 32,
    'num_blocks': 1,
    'warmup_updates': 10,
    'learning_rate': 2e-3,
    'clip': 100.0,
}
RNG = np.random.default_rng(0)


def _reference(x, data, temperature):
    """Algorithm 2 for one row, with loops, before any normalisation; also the mean distance."""
    others = np.concatenate([data, x])
    n, m = len(x), len(data)
    distance = np.array([[np.linalg.norm(a - b) for b in others] for a in x])
    itself = np.zeros((n, n + m), bool)
    itself[np.arange(n), m + np.arange(n)] = True
    scale = distance[~itself].mean()
    kernel = np.where(itself, 0.0, np.exp(-distance / (temperature * scale)))
    both = kernel / kernel.sum(1, keepdims=True) * kernel / kernel.sum(0, keepdims=True)
    weight = np.sqrt(np.maximum(both, 1e-6))
    attract, repel = weight[:, :m], weight[:, m:]
    field = np.zeros_like(x)
    for i in range(n):
        for j in range(m):
            field[i] += attract[i, j] * repel[i].sum() * data[j]
        for j in range(n):
            field[i] -= repel[i, j] * attract[i].sum() * x[j]
    return field, scale


def test_the_field_is_algorithm_2():
    x, data = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 3))
    field, scale = _reference(x, data, 0.5)
    expected = field / np.sqrt((field**2).mean()) * scale / np.sqrt(3)
    drift = jax.jit(lambda x, data: drifting.drift(x, data, (0.5,)))
    found = drift(np.float32(x[None]), np.float32(data[None]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_samples_are_drawn_to_the_data_and_away_from_each_other():
    x = np.float32([[[-0.1], [0.0], [0.1]]])
    drift = jax.jit(lambda data: drifting.drift(x, data, (0.5,)))
    field = drift(np.float32([[[2.0]]]))
    assert (field > 0).all()  # towards the data, which is far
    field = drift(np.float32([[[0.0]]]))
    assert field[0, 0, 0] < 0 < field[0, 2, 0]  # too close to each other: apart


def test_samples_that_are_close_together_still_go_to_the_data():
    rng = np.random.default_rng(1)
    data = rng.normal(size=(16, 1, 8))
    x = rng.normal(size=(16, 1, 8)) + 0.02 * rng.normal(size=(16, 8, 8))
    found = drifting.drift(np.float32(x), np.float32(data), (0.02, 0.05, 0.2))
    along = np.sum(found * (data - x), axis=-1) / np.sum((data - x) ** 2, axis=-1)
    assert along.min() > 0.05  # without the floor, nine in ten move by less


NUM_UPDATES = 1600


@functools.cache
def _program():
    """(whether the data follow the observation, obs [2000, 1, 1]) -> one action for each."""
    agent = drifting.make(drifting.Config(**CONFIG, decay_updates=NUM_UPDATES), SPEC)

    def learn(follow, obs):
        def step(state, key):
            batch_key, key = jax.random.split(key)
            seen = jax.random.uniform(batch_key, (64, 1, 1), minval=-1.0)
            side = jnp.where(jax.random.bernoulli(batch_key, 0.5, (64, 1, 1)), -0.6, 0.6)
            action = jnp.where(follow, _followed(seen), side)
            batch = Chunk(follow * seen, action, jnp.ones((64, 1), bool))
            return agent.update(state, batch, key)

        keys = jax.random.split(jax.random.key(1), NUM_UPDATES)
        state, _ = jax.lax.scan(step, agent.init(jax.random.key(0)), keys)
        return acting.act_of(agent)(state, obs, jax.random.key(2))[0]

    return jax.jit(learn)


def _followed(obs):
    return 0.7 * jnp.sin(2.0 * obs)


def test_one_step_keeps_both_modes():
    """Actions -0.6 and 0.6, half each, of one observation: regression would say 0."""
    x = np.asarray(_program()(False, np.zeros((2000, 1, 1), np.float32)))
    assert 0.3 < (x > 0).mean() < 0.7
    assert np.median(np.abs(np.abs(x) - 0.6)) < 0.2


def test_it_follows_the_observation():
    obs = np.linspace(-0.9, 0.9, 2000, dtype=np.float32).reshape(-1, 1, 1)
    x = np.asarray(_program()(True, obs))
    assert np.abs(x - _followed(obs)).mean() < 0.08


def test_padding_counts_neither_in_distances_nor_in_the_loss():
    spec = SPEC._replace(action=jax.ShapeDtypeStruct((2,), jnp.float32))
    config = CONFIG | {'pred_horizon': 3}
    agent = drifting.make(drifting.Config(**config, num_samples=3), spec)
    mask = np.array([[True, True, False]] * 4)
    action = RNG.uniform(-1, 1, (4, 3, 2)).astype(np.float32)
    batch = Chunk(np.zeros((4, 1, 1), np.float32), action, mask)
    garbage = batch.replace(action=np.where(mask[..., None], action, np.float32(9.0)))
    state = jax.jit(agent.init)(jax.random.key(0))
    state = state.replace(params=jax.tree.map(lambda x: np.asarray(x) + 0.1, state.params))
    update = jax.jit(agent.update)
    found, other = (update(state, b, jax.random.key(1)) for b in (batch, garbage))
    jax.tree.map(np.testing.assert_array_equal, found, other)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'num_samples': 1}, 'agent.num_samples: expected at least 2, found 1'),
        ({'temperatures': ()}, r'agent.temperatures: expected positive numbers, found \(\)'),
        ({'temperatures': (0.1, 0.0)}, 'agent.temperatures: expected positive'),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        drifting.make(drifting.Config(**CONFIG | fields), SPEC)
