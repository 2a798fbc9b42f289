"""Distances with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.ops import distances


@pytest.mark.parametrize('block', [2, 256])
def test_neighbours_on_a_line(block):
    reference = jnp.arange(10.0)[:, None]
    x = jnp.array([[0.0], [4.25], [12.0]])
    for k, wanted in ((1, [0.0, 0.25, 3.0]), (2, [1.0, 0.75, 4.0]), (5, [4.0, 2.25, 7.0])):
        found = distances.nearest(x, reference, k, block)
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_neighbours_are_those_of_a_full_search():
    key, other = jax.random.split(jax.random.key(0))
    x, reference = jax.random.normal(key, (50, 7)), jax.random.normal(other, (300, 7))
    full = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(reference), axis=-1)
    found = distances.nearest(x, reference, 5, 16)
    np.testing.assert_allclose(found, np.sort(full, axis=1)[:, 4], rtol=1e-4)


def test_more_neighbours_than_points_are_refused():
    with pytest.raises(ValueError, match=r'k: expected 1 to 3 \(points\), found 5'):
        distances.nearest(jnp.zeros((2, 1)), jnp.zeros((3, 1)), 5)


def test_mahalanobis_counts_deviations():
    # four points: mean (1, 2), variance 4/3 times 9 and 16, no covariance
    x = jnp.array([[4.0, 2.0], [-2.0, 2.0], [1.0, 6.0], [1.0, -2.0]])
    gaussian = distances.fit_gaussian(x, 1e-6)
    deviations = np.sqrt(np.array([9.0, 16.0]) * 2 / 3)
    points = gaussian.mean + jnp.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]) * deviations
    found = distances.mahalanobis(points, gaussian)
    np.testing.assert_allclose(found, [2.0, 3.0, np.sqrt(2.0)], rtol=1e-5)


def test_mahalanobis_of_a_gaussian_and_of_what_is_redundant():
    mixing = jnp.array([[2.0, 0.3, 1.0], [0.0, 0.5, -1.0]])  # the third column is redundant
    z = jax.random.normal(jax.random.key(0), (20_000, 2))
    z = z.at[:, 1].set(z[:, 1] - 0.5)
    x = jnp.concatenate([z @ mixing[:, :2], (z @ mixing[:, :2])[:, :1] - z[:, 1:]], axis=1)
    gaussian = distances.fit_gaussian(x, 1e-4)
    squared = np.asarray(distances.mahalanobis(x, gaussian)) ** 2
    assert squared.mean() == pytest.approx(2.0, rel=0.01)  # chi squared, two degrees of freedom
    assert (squared > 5.991).mean() == pytest.approx(0.05, abs=0.006)
    away = gaussian.mean + jnp.array([[0.0, 0.0, 1.0]])
    assert float(distances.mahalanobis(away, gaussian)[0]) > 10.0  # it left the plane
