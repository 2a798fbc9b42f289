import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.loops.dagger import gates
from jaxpolicy.types import Chunk


def test_beta_schedules():
    rounds = jnp.arange(5)
    values = {n: [float(gates.schedule(n, 0.8, 5)(r)) for r in rounds] for n in gates.SCHEDULES}
    np.testing.assert_allclose(values['constant'], 0.8)
    np.testing.assert_allclose(values['linear'], [0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(values['exponential'], 0.8 ** np.arange(1, 6), rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'beta', 'message'),
    [
        ('cubic', 0.5, "loop.beta_schedule: expected one of .* found 'cubic'"),
        ('linear', 1.5, 'loop.beta: expected 0 to 1, found 1.5'),
    ],
)
def test_mistakes_are_named(name, beta, message):
    with pytest.raises(ValueError, match=message):
        gates.schedule(name, beta, 5)


def test_beta_takes_over_by_chance():
    gate = gates.beta(gates.schedule('constant', 0.3, 5))
    chunk = Chunk(jnp.zeros((4000, 1, 1)), jnp.zeros((4000, 1, 1)), jnp.ones((4000, 1), bool))
    seen = gates.Seen((), (), chunk, {}, jnp.zeros((4000, 1)))
    score = gate.score(seen, jax.random.key(0))
    threshold = gate.threshold(score, jnp.ones(4000, bool), jnp.array(0.1), jnp.array(0))
    assert abs((score > threshold).mean() - 0.3) < 0.03


def test_the_budget_is_kept_where_actions_are_choices():
    """Three in ten plans differ from the expert's choice; chance decides which of them count."""
    differ = jnp.arange(1000) % 10 < 3
    plan = jax.nn.one_hot(differ.astype(int), 2, dtype=jnp.int8)
    chunk = Chunk(jnp.zeros((1000, 1, 1)), plan[:, None], jnp.ones((1000, 1), bool))
    seen = gates.Seen((), (), chunk, {}, jax.nn.one_hot(jnp.zeros(1000, int), 2, dtype=jnp.int8))
    gate = gates.expert(0)
    score, reached = gate.score(seen, jax.random.key(0)), jnp.ones(1000, bool)
    for budget in (0.1, 0.3, 0.6):
        above = score > gate.threshold(score, reached, jnp.array(budget), jnp.array(0))
        np.testing.assert_allclose(above.mean(), budget, atol=0.01)
        np.testing.assert_allclose(above[differ, 0].mean(), min(budget / 0.3, 1.0), atol=0.02)


def test_thresholds_keep_the_budget_over_what_was_reached():
    key = jax.random.key(0)
    scores = jax.random.normal(key, (20, 100, 2)) * jnp.array([1.0, 50.0])
    reached = jnp.arange(20)[:, None] < jnp.arange(100)[None] % 20
    threshold = gates.within_budget(scores, reached, jnp.array(0.2), jnp.array(0))
    above = (scores > threshold) & reached[..., None]
    share = above.sum((0, 1)) / reached.sum()
    np.testing.assert_allclose(share, 0.1, atol=0.01)  # half of the budget for each kind
    everything = gates.within_budget(scores, reached, jnp.array(2.0), jnp.array(0))
    assert (everything <= jnp.median(scores, axis=(0, 1)) + 1).all()


def test_predictive_compares_robots_that_still_run():
    scores = jnp.array([[0.1, 0.9, 0.2], [0.3, 0.5, 9.0]])[..., None]
    reached = jnp.array([[True, True, True], [True, True, False]])
    failed = jnp.array([False, True, False])
    assert gates.predictive(scores, reached, failed) == 1.0
    np.testing.assert_allclose(gates.predictive(scores, jnp.ones((2, 3), bool), failed), 3 / 4)
