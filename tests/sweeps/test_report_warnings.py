"""Each warning has a case that brings it and one that does not."""

import pytest

from jaxpolicy.sweeps import report_statistics, report_warnings, scores
from tests.sweeps import sweep_results

FIVE = (1.0, 1.1, 1.2, 1.3, 1.4)
BETTER = tuple(x + 5.0 for x in FIVE)


def found(*results, best=False, at=None):
    collection = scores.collect(results, best, at)
    base = report_statistics.baseline_of(collection, None)
    rows = report_statistics.rows(collection, results, base)
    return ' '.join(report_warnings.find(collection, results, rows, base, best, at))


def plain():
    return [sweep_results.make('a', FIVE), sweep_results.make('b', BETTER)]


def test_a_fair_comparison_has_no_warning():
    assert found(*plain()) == ''


@pytest.mark.parametrize(
    'extra,words',
    [
        ({'scores': FIVE[:4]}, 'Fewer than 5 seeds of 1 setting: c (4)'),
        (
            {'budget': 2000},
            'Runs differ in the budget on reach, in env steps or updates: 1,000 (a;',
        ),
        ({'num_episodes': 10}, 'number of episodes of an evaluation on reach: 10 (c); 50 (a; b)'),
        (
            {'scores': (*FIVE[:4], None)},
            'The score of 1 seed is no number and is in no average: c, ',
        ),
        ({'scores': FIVE}, "The interval of 1 setting overlaps the baseline's (a): c"),
        ({'scores': (9.0, 9.1, 9.0, 9.2, 2.0)}, '1 seed scored far from the others'),
        ({'scores': (9.0, 9.1, 9.0, 9.2, 2.0)}, 'c, seed 4: 2 (median 9)'),
    ],
)
def test_what_a_third_setting_brings(extra, words):
    results = [*plain(), sweep_results.make('c', **({'scores': BETTER} | extra))]
    assert words in found(*results)


@pytest.mark.parametrize(
    'status,words',
    [
        ('failed', '1 run failed and are in no average: c'),
        ('stopped', '1 run were stopped early and are in no average: c'),
        ('running', '1 run have not ended and are in no average: c'),
    ],
)
def test_runs_that_did_not_finish_are_named_and_in_no_average(status, words):
    results = [*plain(), sweep_results.make('c', (-100.0,), status=status)]
    assert words in found(*results)
    assert ('said of the runs that are left' in found(*results)) == (status == 'stopped')
    assert 'c' not in scores.collect(results).table()


def test_evaluations_up_to_an_equal_number_of_steps_are_of_equal_budgets():
    results = [*plain(), sweep_results.make('c', BETTER, budget=2000)]
    assert 'in the budget' not in found(*results, at=1000)


def test_a_number_that_is_not_known_is_not_unequal():
    results = [*plain(), sweep_results.make('c', BETTER, num_episodes=0)]
    assert found(*results) == ''


def test_best_checkpoints():
    assert 'chosen on the same episodes' in found(*plain(), best=True)


def test_a_small_distance_is_no_outlier():
    results = [*plain(), sweep_results.make('c', (9.0, 9.0, 9.0, 9.0, 8.9))]
    assert 'scored far' not in found(*results)


def test_settings_without_a_task():
    results = [*plain(), sweep_results.make('a', FIVE, task='other')]
    assert 'Settings lack some of the 2 tasks: b (1)' in found(*results)


@pytest.mark.parametrize('count,warns', [(13, False), (14, True)])
def test_many_comparisons(count, warns):
    """1 - 0.95^13 = 0.487, 1 - 0.95^14 = 0.512."""
    results = [sweep_results.make(f's{i:02d}', FIVE) for i in range(count + 1)]
    words = f'{count} settings are compared with the baseline'
    assert (words in found(*results)) == warns


def test_the_same_seed_twice():
    results = [*plain(), sweep_results.make('a', FIVE, identity='again')]
    assert 'found more than once for a' in found(*results)
