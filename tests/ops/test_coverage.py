"""Ordered coverage: by hand, against its definition, and what it is for: order, not speed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.ops import coverage


def test_a_small_one_by_hand():
    prob = np.array([[0.5, 0.4], [0.2, 0.9], [0.8, 0.1], [0.1, 0.5]])
    # the first frame is remembered, the last one is not
    expected = [[0.5, 0.5 * 0.4], [0.5, 0.5 * 0.9], [0.8, 0.8 * 0.1], [0.8, 0.8 * 0.5]]
    np.testing.assert_allclose(coverage.ordered(jnp.asarray(prob)), expected, rtol=1e-6)


def test_a_single_frame_is_nearness():
    prob = jnp.asarray([[0.3], [0.9], [0.2]])
    np.testing.assert_array_equal(coverage.ordered(prob), prob)


def test_it_is_the_best_way_of_visiting_all_in_order():
    num_steps, num_frames = 5, 4
    prob = np.random.default_rng(0).uniform(0.05, 1.0, (num_steps, num_frames))
    found = np.asarray(coverage.ordered(jnp.asarray(prob)))
    for t, j in itertools.product(range(num_steps), range(num_frames)):
        ways = itertools.combinations_with_replacement(range(t + 1), j + 1)
        if j == num_frames - 1:  # the last frame is visited now
            ways = [way for way in ways if way[-1] == t]
        best = max(np.prod([prob[time, i] for i, time in enumerate(way)]) for way in ways)
        np.testing.assert_allclose(found[t, j], best, rtol=1e-5)


def test_speed_does_not_matter_but_order_does():
    frames = jnp.arange(6.0)[:, None]
    scale = jnp.ones(1)
    as_shown = coverage.visits(frames, frames, scale, 1.0)
    slowly = coverage.visits(jnp.repeat(frames, 3, axis=0), frames, scale, 1.0)
    backwards = coverage.visits(frames[::-1], frames, scale, 1.0)
    rewards = [np.asarray(coverage.ordered(prob))[:, -1] for prob in (as_shown, slowly, backwards)]
    np.testing.assert_allclose(rewards[0][-1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(rewards[1][-1], 1.0, rtol=1e-6)
    assert (np.diff(rewards[0]) > 0).all() and rewards[2].max() < 0.05
    # waiting at the end is worth as much as arriving
    stay = jnp.concatenate([as_shown, as_shown[-1:]])
    np.testing.assert_allclose(coverage.ordered(stay)[-1, -1], 1.0, rtol=1e-6)


def test_distances_are_in_units_of_the_scale():
    obs, frames = jnp.array([[1.0, 10.0]]), jnp.array([[1.0, 10.0], [3.0, 10.0], [1.0, 50.0]])
    found = coverage.visits(obs, frames, jnp.array([2.0, 20.0]), 0.5)
    expected = np.exp(-np.array([0.0, np.sqrt(0.5), np.sqrt(2.0)]) / 0.5)
    np.testing.assert_allclose(found, expected[None], rtol=1e-6)


def test_worlds_are_apart():
    prob = jax.random.uniform(jax.random.key(0), (7, 3, 5))
    together = coverage.ordered(prob)
    for i in range(3):
        np.testing.assert_allclose(together[:, i], coverage.ordered(prob[:, i]), rtol=1e-6)
