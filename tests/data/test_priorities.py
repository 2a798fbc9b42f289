"""Prioritised replay: how often steps are drawn, their weights, and what is never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import priorities
from tests.data import test_buffer

WORLDS, CAPACITY = 2, 10
draw = jax.jit(priorities.draw, static_argnums=(3, 4, 5, 6))
add, update = jax.jit(priorities.add, static_argnums=2), jax.jit(priorities.update)


def _full(added=23):
    """A ring written more than twice over."""
    buffer, _ = test_buffer.filled(CAPACITY, (1,) * added, num_worlds=WORLDS)
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(0.1, 3.0, (WORLDS, CAPACITY)), jnp.float32), buffer


def _chances(priority, buffer, num_steps, exponent):
    """P of each slot [N, C], by hand: 0 where fewer than `num_steps` steps follow."""
    count, scaled = int(buffer.count[0]), np.zeros(priority.shape)
    for time in range(max(count - CAPACITY, 0), count - num_steps + 1):
        scaled[:, time % CAPACITY] = np.asarray(priority)[:, time % CAPACITY] ** exponent
    return scaled / scaled.sum()


@pytest.mark.parametrize(('num_steps', 'exponent'), [(1, 1.0), (3, 0.6), (10, 0.5)])
def test_steps_are_drawn_in_proportion(num_steps, exponent):
    priority, buffer = _full()
    num, beta = 20_000, 0.4
    places, weight = draw(
        priority, buffer, jax.random.key(0), (4, num // 4), num_steps, exponent, beta
    )
    count = int(buffer.count[0])
    assert places.time.shape == (4, num // 4)
    assert count - CAPACITY <= places.time.min() <= places.time.max() <= count - num_steps
    slot = np.asarray(places.time % CAPACITY), np.asarray(places.world)
    found = np.zeros((WORLDS, CAPACITY))
    np.add.at(found, slot[::-1], 1.0 / num)
    wanted = _chances(priority, buffer, num_steps, exponent)
    # stratified: each is off by at most one draw at both ends
    np.testing.assert_allclose(found, wanted, atol=2.5 / num)
    chance = wanted[slot[::-1]]
    expected = ((wanted > 0).sum() * chance) ** -beta
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-4)
    assert float(weight.max()) == pytest.approx(1.0)


def test_samples_are_in_no_order():
    """Minibatches of one draw must not be sorted by slot."""
    priority, buffer = _full()
    places, _ = draw(priority, buffer, jax.random.key(0), (8, 500), 1, 1.0, 0.4)
    index = np.asarray(places.world * CAPACITY + places.time % CAPACITY)
    means = index.mean(axis=1)
    assert means.std() < 4 * index.std() / np.sqrt(500)


@pytest.mark.parametrize('num_steps', [1, 3])
def test_what_is_not_whole_is_never_drawn(num_steps, monkeypatch):
    """Also where a point lies at the very end of the sums, behind the last slot that counts."""
    buffer, _ = test_buffer.filled(CAPACITY, (5,), num_worlds=WORLDS)
    priority = add(priorities.make(WORLDS, CAPACITY), buffer, 5)
    places, _ = draw(priority, buffer, jax.random.key(0), (5000,), num_steps, 1.0, 0.4)
    assert set(np.unique(places.time)) == set(range(5 - num_steps + 1))
    monkeypatch.setattr(jax.random, 'uniform', lambda key, shape: jnp.ones(shape))
    fresh = jax.jit(
        lambda key: priorities.draw(priority, buffer, key, (4096,), num_steps, 1.0, 0.4)
    )
    places, weight = fresh(jax.random.key(0))  # traced with the patch
    assert int(places.time.max()) == 5 - num_steps
    np.testing.assert_allclose(
        weight, 1.0, rtol=1e-5
    )  # all alike: one bad one would be the largest


def test_new_steps_have_the_largest_priority():
    buffer, _ = test_buffer.filled(CAPACITY, (4,), num_worlds=WORLDS)
    priority = add(priorities.make(WORLDS, CAPACITY), buffer, 4)
    np.testing.assert_array_equal(priority, np.tile([1.0] * 4 + [0.0] * 6, (2, 1)))
    places = buffer_lib.Places(jnp.array([0, 1]), jnp.array([1, 3]))
    priority = update(priority, places, jnp.array([-7.0, 0.5]))
    buffer = test_buffer.add(buffer, test_buffer.steps(4, 8, WORLDS))  # 12 in all: around the seam
    priority = add(priority, buffer, 8)
    wanted = np.full((2, 10), 7.0 + priorities.EPSILON)
    wanted[:, 2] = 1.0
    wanted[:, 3] = [1.0, 0.5 + priorities.EPSILON]
    np.testing.assert_allclose(priority, wanted, rtol=1e-6)


def test_seen_errors_change_how_often_a_step_is_drawn():
    priority, buffer = _full()
    draw_all = (buffer, jax.random.key(0), (4000,), 1, 1.0, 1.0)
    places, _ = draw(priority, *draw_all)
    world, time = places.world[0], places.time[0]
    where = (int(world), int(time) % CAPACITY)

    def share(priority):
        places, _ = draw(priority, *draw_all)
        return float(np.mean((places.world == world) & (places.time == time)))

    one = buffer_lib.Places(world[None], time[None])
    rest = float(priority.sum() - priority[where])
    for error in (-20.0, 0.0):
        updated = update(priority, one, jnp.array([error]))
        mine = abs(error) + priorities.EPSILON
        assert share(updated) == pytest.approx(mine / (mine + rest), abs=1e-3)
    assert 0.0 < mine / (mine + rest) < 1e-3  # no step is lost for good


def test_a_million_slots_keep_their_chances():
    """A part of the sum that spans some ten slots, close to the end, cut finely."""
    rng, num_parts, part = np.random.default_rng(0), 100_000, 99_950
    scaled = rng.uniform(0.5, 1.5, 1_000_000).astype(np.float32)
    u = (np.arange(5000, dtype=np.float32) + 0.5) / 5000
    at = jax.jit(priorities._at, static_argnums=3)
    index, total = at(scaled, np.full(5000, part), u, num_parts)
    slots, counts = np.unique(np.asarray(index), return_counts=True)
    np.testing.assert_array_equal(slots, np.arange(slots[0], slots[-1] + 1))
    found = counts[1:-1] / 5000 / num_parts  # the slots at both ends belong to other parts too
    wanted = scaled[slots[1:-1]] / scaled.sum(dtype=np.float64)
    np.testing.assert_allclose(found, wanted, rtol=0.01)
    np.testing.assert_allclose(total, scaled.sum(dtype=np.float64), rtol=1e-5)


def test_beta_rises_to_one():
    found = [float(priorities.annealed(0.4, jnp.asarray(n), 100)) for n in (0, 50, 100, 300)]
    np.testing.assert_allclose(found, [0.4, 0.7, 1.0, 1.0], rtol=1e-6)
