import itertools

import pytest

from jaxpolicy.sweeps import factors, scores
from tests.sweeps import sweep_results


def grid(score, a=(1, 2), b=(0.0, 0.5), noise=(0.0, 0.0)):
    return scores.collect(
        [
            sweep_results.make(
                f'agent.a={x} agent.b={y}',
                [score(x, y) + z for z in noise],
                changes={'agent.a': x, 'agent.b': y},
            )
            for x, y in itertools.product(a, b)
        ]
    ).samples


def test_shares_of_main_effects_by_hand():
    """Scores 0, 1, 3, 4: a explains 9 of 10 parts of the variance, b one."""
    found = factors.analyse(grid(lambda a, b: 3.0 * (a - 1) + 2.0 * b))
    assert [(f.key, round(f.share, 6)) for f in found.factors] == [
        ('agent.a', 0.9),
        ('agent.b', 0.1),
    ]
    assert [(x.name, x.num_scores, x.mean) for x in found.factors[0].levels] == [
        ('1', 4, 0.5),
        ('2', 4, 3.5),
    ]
    assert found.seeds == 0.0 and found.rest == pytest.approx(0.0)


def test_a_pure_interaction_is_no_main_effect():
    found = factors.analyse(grid(lambda a, b: float((a == 2) == (b > 0))))
    assert all(factor.share == pytest.approx(0.0) for factor in found.factors)
    assert found.rest == pytest.approx(1.0)


def test_seeds_have_their_share():
    """Between the settings' scores 0 and 2 the variance is 1, between seeds 1."""
    found = factors.analyse(grid(lambda a, b: 2.0 * (a - 1), noise=(-1.0, 1.0)))
    assert found.seeds == pytest.approx(0.5) and found.factors[0].share == pytest.approx(0.5)


def test_the_mean_of_a_task_is_no_effect():
    one = grid(lambda a, b: float(a))
    other = [s._replace(task='other', score=s.score + 100.0) for s in one]
    assert factors.analyse(one + other).factors[0].share == pytest.approx(1.0)


def test_an_incomplete_grid_has_no_rest():
    assert factors.analyse(grid(lambda a, b: a + b)[:-1]).rest is None


def test_interactions_are_the_means_of_combinations():
    found = factors.interaction(grid(lambda a, b: 10.0 * a + b), 'agent.a', 'agent.b')
    assert found == {
        '0.0': [('1', 10.0, 10.0, 10.0), ('2', 20.0, 20.0, 20.0)],
        '0.5': [('1', 10.5, 10.5, 10.5), ('2', 20.5, 20.5, 20.5)],
    }


def test_many_numbers_are_put_into_groups():
    found = factors.analyse(grid(lambda a, b: float(a), a=range(8), b=(0.0,)))
    (factor,) = found.factors
    assert [level.name for level in factor.levels] == ['0 to 1', '2 to 3', '4 to 5', '6 to 7']


def test_levels_are_in_the_order_of_numbers_after_the_recipes_own():
    results = [
        sweep_results.make(f'lr={x}', (float(i),), changes={} if x is None else {'agent.lr': x})
        for i, x in enumerate((0.003, 1e-05, None, 0.0001))
    ]
    (factor,) = factors.analyse(scores.collect(results).samples).factors
    names = [level.name for level in factor.levels]
    assert names == [factors.NOT_CHANGED, '1e-05', '0.0001', '0.003']


def test_one_setting_has_no_factor():
    assert factors.analyse(scores.collect([sweep_results.make('a', (1.0, 2.0))]).samples) is None
    assert factors.analyse(grid(lambda a, b: 1.0)) is None  # nothing to explain
