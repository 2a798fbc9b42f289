import pytest

from jaxpolicy.sweeps import scores
from tests.sweeps import sweep_results


def test_every_seed_of_a_finished_run_is_a_sample():
    found = scores.collect(
        [
            sweep_results.make('a', (1.0, 2.0)),
            sweep_results.make('a', (3.0,), seeds=[7]),
            sweep_results.make('b', (9.0, None)),
            sweep_results.make('b', (8.0,), seeds=[5], status='failed'),
        ]
    )
    assert found.table() == {'a': {'reach': {0: 1.0, 1: 2.0, 7: 3.0}}, 'b': {'reach': {0: 9.0}}}
    assert [result.status for result in found.unfinished] == ['failed']
    assert [(result.name, seed) for result, seed in found.not_numbers] == [('b', 1)]
    assert found.normalisation == '' and found.scale == 'return' and found.best is None


def test_best_and_at_choose_the_evaluation():
    results = [sweep_results.make('a', (1.0,))]

    def score(**how):
        return scores.collect(results, **how).samples[0].score

    assert (score(), score(best=True), score(at=700)) == (1.0, 2.0, 0.5)
    assert scores.collect(results, at=700).samples[0].curve == [(500.0, 0.5)]
    assert not scores.collect(results, at=100).samples


def test_several_tasks_are_scaled_by_their_lowest_and_highest():
    found = scores.collect(
        [
            sweep_results.make('a', (0.0, 5.0), task='x'),
            sweep_results.make('b', (10.0,), task='x'),
            sweep_results.make('a', (-1.0, 1.0), task='y'),
            sweep_results.make('a', (3.0,), task='z'),
        ]
    )
    table = found.table()
    assert table == {
        'a': {'x': {0: 0.0, 1: 0.5}, 'y': {0: 0.0, 1: 1.0}, 'z': {0: 0.0}},
        'b': {'x': {0: 1.0}},
    }
    assert found.samples[1].curve == [(500.0, 0.25), (1000.0, 0.5)]
    assert 'the lowest score of any run counts 0' in found.normalisation and found.best is None


def test_reference_scores_scale_one_task_too():
    found = scores.collect([sweep_results.make('a', (30.0,))], reference={'reach': (10, 50)})
    assert found.samples[0].score == 0.5 and found.best == 1.0
    assert 'reference scores' in found.normalisation


@pytest.mark.parametrize('reference', [{}, {'reach': [1]}, {'reach': [2, 1]}, {'reach': 'ab'}])
def test_a_reference_has_two_increasing_numbers_for_each_task(reference):
    with pytest.raises(ValueError, match="--reference: expected two increasing numbers .* 'reach'"):
        scores.collect([sweep_results.make()], reference=reference)


def test_success_has_a_known_best():
    assert scores.collect([sweep_results.make(score='success_max')]).best == 1.0


def test_one_setting_may_have_several_tasks():
    results = [
        sweep_results.make('agent.tau=0.1 env.name=x', task='x'),
        sweep_results.make('env.name=y agent.tau=0.1', task='y'),
        sweep_results.make('env.name=x', task='x'),
    ]
    assert scores.collect(results).settings() == ['agent.tau=0.1', 'as the recipe']


def test_the_same_seed_twice_counts_once_and_is_named():
    found = scores.collect(
        [sweep_results.make('a', (1.0,)), sweep_results.make('a', (2.0,), identity='other')]
    )
    assert [s.score for s in found.samples] == [1.0] and found.twice == ['a']


def test_names_have_short_keys_where_those_are_unique():
    changes = {'agent.tau': 1, 'loop.batch_size': 2, 'data.batch_size': 3}
    shorten = scores.shortener([sweep_results.make(changes=changes)])
    assert shorten('agent.tau=1, loop.batch_size=2') == 'tau=1, loop.batch_size=2'
    assert shorten('agent.other=1') == 'agent.other=1'


def test_runs_of_a_task_have_one_metric():
    with pytest.raises(ValueError, match=r"reach: expected runs with one eval.score, found \['ret"):
        scores.collect([sweep_results.make('a'), sweep_results.make('b', score='success')])


@pytest.mark.parametrize('changed', [{'best': [1.0]}, {'seeds': [0]}, {'curve': [{'values': []}]}])
def test_every_seed_has_its_value(changed):
    seeds = changed.pop('seeds', [0, 1])
    with pytest.raises(ValueError, match=r'a, .*: expected a value of each of \d seeds, found \d'):
        scores.collect([sweep_results.make('a', (1.0, 2.0), seeds=seeds, **changed)])


def test_updates_are_the_axis_where_nothing_steps():
    curve = [{'env_steps': 0, 'updates': 5, 'values': [1.0]}]
    found = scores.collect([sweep_results.make(curve=curve)])
    assert found.axis == 'updates' and found.samples[0].curve == [(5.0, 1.0)]
    with pytest.raises(ValueError, match='--at: expected runs that count env steps'):
        scores.collect([sweep_results.make(curve=curve)], at=3)
