"""Values by hand and in closed form; docs/reports.md has the comparison with rliable."""

import numpy as np
import pytest
from scipy import stats

from jaxpolicy.ops import bootstrap


def test_aggregates_by_hand():
    scores = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, 107.0])]
    assert bootstrap.mean(scores) == (1.5 + 30.5) / 2
    assert bootstrap.median(scores) == 16.0  # of the means of the tasks
    assert bootstrap.iqm(scores) == (2 + 3 + 4 + 5) / 4
    assert bootstrap.optimality_gap(scores, best=4.0) == 4.0 - (1.5 + 4.0) / 2


def test_the_median_of_one_task_is_over_its_seeds():
    assert bootstrap.median([np.array([0.0, 0.0, 9.0])]) == 0.0


@pytest.mark.parametrize('n', [1, 2, 3, 5, 10])
def test_iqm_cuts_as_a_trimmed_mean_does(n):
    x = np.random.default_rng(n).normal(size=n)
    np.testing.assert_allclose(bootstrap.iqm([x]), stats.trim_mean(x, 0.25))


def test_statistics_reduce_the_last_axis_alone():
    x = np.random.default_rng(0).normal(size=(7, 5))
    for statistic in (bootstrap.mean, bootstrap.median, bootstrap.iqm):
        rows = [float(statistic([row, row[:2]])) for row in x]
        np.testing.assert_allclose(statistic([x, x[:, :2]]), rows)


def test_the_bootstrap_is_that_of_the_mean():
    """Of N draws from {0, 1}, the mean has the standard error sqrt(p (1 - p) / N)."""
    x = np.repeat([0.0, 1.0], [300, 100])
    value, low, high = bootstrap.interval(bootstrap.mean, [x], num_resamples=4000)
    error = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_allclose([value, low, high], [0.25, 0.25 - error, 0.25 + error], atol=0.004)


def test_seeds_are_drawn_within_their_task():
    """Tasks that differ, with seeds that do not, leave nothing to chance."""
    scores = [np.full(3, 1.0), np.full(5, 9.0)]
    for statistic in (bootstrap.mean, bootstrap.iqm, bootstrap.median):
        value, low, high = bootstrap.interval(statistic, scores, num_resamples=50)
        assert low == high == value


def test_chunks_do_not_change_an_interval(monkeypatch):
    scores = [np.arange(5.0), np.arange(7.0)]
    monkeypatch.setattr(bootstrap, '_CHUNK', 24)
    small = bootstrap.interval(bootstrap.iqm, scores, num_resamples=400)
    monkeypatch.undo()
    large = bootstrap.interval(bootstrap.iqm, scores, num_resamples=400)
    np.testing.assert_allclose(small, large, atol=0.4)  # other draws of the same distribution
    again = bootstrap.interval(bootstrap.iqm, scores, num_resamples=400)
    assert np.array_equal(large, again)


def test_means_of_columns_are_bootstrapped_as_means_are():
    x = np.random.default_rng(1).normal(size=(30, 2))
    columns = bootstrap.interval_of_means([x, x[:9]], num_resamples=4000)
    for k in range(2):
        one = bootstrap.interval(bootstrap.mean, [x[:, k], x[:9, k]], num_resamples=4000)
        np.testing.assert_allclose([part[k] for part in columns], one, atol=0.02)


def test_profiles_are_fractions_above():
    value, low, high = bootstrap.performance_profile(
        [np.array([0.0, 1.0, 2.0, 3.0]), np.array([5.0])], np.array([-1.0, 1.0, 4.0, 5.0])
    )
    assert value.tolist() == [1.0, (0.5 + 1.0) / 2, 0.5, 0.0]
    assert (low <= value).all() and (value <= high).all()


def test_probability_of_improvement_is_mann_and_whitneys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 9).astype(float), rng.integers(0, 4, 7).astype(float)
    value, low, high = bootstrap.probability_of_improvement([x], [y])
    np.testing.assert_allclose(value, stats.mannwhitneyu(x, y).statistic / 63)
    assert 0.0 <= low < value < high <= 1.0
    both = bootstrap.probability_of_improvement([x, y], [y, y])[0]
    np.testing.assert_allclose(both, (value + 0.5) / 2)  # y against itself is even


def test_the_interval_of_an_improvement_covers_what_it_should():
    """Of two equal distributions, 95% of the intervals or so hold 0.5."""
    rng = np.random.default_rng(2)
    held = 0
    for index in range(200):
        x, y = rng.normal(size=(2, 20))
        _, low, high = bootstrap.probability_of_improvement([x], [y], index, 300)
        held += low <= 0.5 <= high
    assert 0.88 < held / 200 < 0.99


def test_outliers_by_hand():
    assert bootstrap.outliers(np.array([1.0, 1.1, 0.9, 1.0, 5.0])).tolist() == [False] * 4 + [True]
    assert bootstrap.outliers(np.array([1.0, 1.0, 1.0, 1.0, 0.0])).tolist() == [False] * 4 + [True]
    assert not bootstrap.outliers(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).any()
    assert not bootstrap.outliers(np.ones(4)).any()


@pytest.mark.parametrize('scores', [[], [np.array([])], [np.array([1.0, np.nan])]])
def test_what_is_no_score_is_refused(scores):
    with pytest.raises(ValueError, match='expected finite values of each task'):
        bootstrap.interval(bootstrap.mean, scores)


def test_both_sides_have_the_same_tasks():
    with pytest.raises(ValueError, match='expected scores of 1 tasks, found 2'):
        bootstrap.probability_of_improvement([np.ones(2)], [np.ones(2)] * 2)
