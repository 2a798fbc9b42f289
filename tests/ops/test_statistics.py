import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.ops import statistics


def test_auroc_by_hand():
    score = jnp.array([[0.1, 0.4, 0.35, 0.8, 0.4, 99.0]])
    positive = jnp.array([[False, False, True, True, True, False]])
    mask = jnp.array([[True] * 5 + [False]])
    # pairs: .35 > .1; .35 < .4; .8 > both; .4 > .1; .4 = .4 counts half
    found = statistics.auroc(score, positive, mask)
    np.testing.assert_allclose(found, (1 + 0 + 2 + 1 + 0.5) / 6)


def test_auroc_compares_within_strata():
    """What differs between strata alone tells nothing; what differs within them, all."""
    positive = jnp.array([[True, False], [True, False]])
    mask = jnp.ones((2, 2), bool)
    assert statistics.auroc(jnp.array([[0.0, 0.0], [9.0, 9.0]]), positive, mask) == 0.5
    assert statistics.auroc(jnp.array([[1.0, 0.0], [9.0, 8.0]]), positive, mask) == 1.0


def test_auroc_of_noise_and_of_order():
    key = jax.random.key(0)
    positive = jax.random.bernoulli(key, 0.3, (1, 2000))
    noise = jax.random.normal(jax.random.fold_in(key, 1), (1, 2000))
    everything = jnp.ones((1, 2000), bool)
    assert abs(statistics.auroc(noise, positive, everything) - 0.5) < 0.04
    assert statistics.auroc(positive + 0.0, positive, everything) == 1.0
    assert statistics.auroc(noise, jnp.zeros_like(positive), everything) == 0.5


@pytest.mark.parametrize('q', [0.0, 0.25, 0.9, 1.0])
def test_masked_quantile_is_numpys(q):
    x = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    mask = x > -0.5
    np.testing.assert_allclose(
        statistics.masked_quantile(x, mask, q), np.quantile(x[mask], q), rtol=1e-5
    )


def test_nothing_is_above_the_quantile_of_nothing():
    assert statistics.masked_quantile(jnp.ones(3), jnp.zeros(3, bool), 0.5) == jnp.inf
