"""Early stopping: which settings are stopped, what is known of it later, and what is refused."""

import dataclasses
import types

import pytest

from jaxpolicy.sweeps import driver, engine, halving, result
from tests.sweeps import engines

ROUNDS = 9  # judged after rounds 1 and 3


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(driver, '_WAIT_S', 0.0)


class Learners:
    """An engine whose runs evaluate once at each look; curves: workdir -> scores of the seeds.

    A run that is asked to stop makes one more round. breaks: workdir -> the round that fails.
    """

    def __init__(self, curves, num_slots=1, breaks=()):
        self.curves, self.breaks = curves, dict(breaks)
        self.rounds, self.started = {}, []
        self.looked = lambda name, index: None
        self.engine = engine.Engine(num_slots, self._start)

    def _start(self, job, slot):
        name, stopped = job.workdir.name, []
        self.started.append(name)

        def poll():
            if stopped:
                return engine.Ended(1, None)
            index = self.rounds[name] = self.rounds.get(name, 0) + 1
            if self.breaks.get(name) == index:
                self.rounds[name] -= 1
                (job.workdir / engine.LOG).write_text('Boom')
                return engine.Ended(1, None)
            engines.write_rows(job.workdir, self.curves[name][:index])
            self.looked(name, index)
            return engine.Ended(0, None) if index == ROUNDS else None

        return engine.Handle(poll, lambda: stopped.append(1), lambda: None)


def level(*scores):
    """A curve on which each seed has the same score from its first evaluation to its last."""
    return [list(scores)] * ROUNDS


def planned(name, seeds=(0,), **fields):
    return engines.planned(name, seeds, num_rounds=ROUNDS, **fields)


def request():
    return types.SimpleNamespace(received=False)


def sweep(folder, runs, learners, asked=None, options=None):
    pytest.importorskip('optuna')
    options = options or halving.Options()
    left = driver.missing(folder, runs, keep_stopped=True)
    judge = halving.Judge(folder, runs, options)
    return driver.run_all(
        folder, engines.alone(left), learners.engine, asked or request(), judge=judge
    )


def statuses(folder):
    return {f'{found.name}{found.seeds[0]}': found.status for found in result.read(folder)}


def test_weak_settings_are_stopped_and_the_best_never(tmp_path, capsys):
    scores = {'a': 5.0, 'b': 4.0, 'c': 6.0, 'd': 3.0, 'e': 6.5, 'f': 1.0, 'g': 7.0}
    learners = Learners({f'{name}0': level(score) for name, score in scores.items()})
    report = sweep(tmp_path, [planned(name) for name in scores], learners)
    assert report == driver.Report(4, 0, False, 3)
    # each that goes on is in the best third of those before it, at least the best one
    stopped = {'b0': 1, 'd0': 1, 'f0': 1}
    assert learners.rounds == {f'{name}0': ROUNDS for name in scores} | stopped
    found = {one.name: one for one in result.read(tmp_path)}
    assert {name for name, one in found.items() if one.status == 'stopped'} == {'b', 'd', 'f'}
    assert found['b'].stopped == (
        'after round 1 of 9, at 4: not among the best 1/3 of the settings that came as far'
    )
    assert found['b'].scores == [4.0] and found['b'].error == '' and found['a'].stopped == ''
    out = capsys.readouterr().out
    assert '[2/7] b, seed 0: stopped after round 1 of 9, at 4' in out


def test_a_setting_that_falls_behind_is_stopped_later(tmp_path):
    late = [[9.0], [9.0], [0.0], *level(0.0)][:ROUNDS]
    learners = Learners({'a0': level(5.0), 'b0': late, 'c0': level(10.0)})
    sweep(tmp_path, [planned(name) for name in 'abc'], learners)
    assert learners.rounds == {'a0': ROUNDS, 'b0': 3, 'c0': ROUNDS}
    again = Learners(learners.curves)
    options = halving.Options(factor=2, first=0.5)  # judged after round 5, of 9, alone
    sweep(tmp_path / 'again', [planned(name) for name in 'abc'], again, options=options)
    assert again.rounds == {'a0': ROUNDS, 'b0': 5, 'c0': ROUNDS}


def test_the_unit_is_a_setting_with_all_its_seeds(tmp_path):
    """One seed above all others saves no setting; a seed without a sound score makes it worst."""
    curves = {
        'a0': level(5.0, 5.0),
        'b0': level(9.0, 0.0),
        'c0': level(9.0, float('nan')),
        'd0': level(4.0),
        'd1': level(9.0),
    }
    learners = Learners(curves, num_slots=2)
    runs = [planned(name, (0, 1)) for name in 'abc']
    runs += [planned('d', (0,)), planned('d', (1,), setting='d')]
    sweep(tmp_path, runs, learners)
    assert statuses(tmp_path) == {
        **{'a0': 'finished', 'b0': 'stopped', 'c0': 'stopped'},
        **{'d0': 'finished', 'd1': 'finished'},
    }
    found = {one.name: one for one in result.read(tmp_path)}
    assert found['b'].stopped.startswith('after round 1 of 9, at 4.5: ')
    assert found['c'].stopped.startswith('after round 1 of 9, without a sound score: ')


def test_runs_of_a_setting_are_stopped_together(tmp_path):
    """With runs of one seed each: a setting is judged when all of them came as far."""
    curves = {'a0': level(5.0), 'a1': level(5.0)} | {f'b{i}': level(1.0) for i in range(3)}
    learners = Learners(curves, num_slots=2)
    runs = [planned('a', (seed,)) for seed in (0, 1)] + [planned('b', (i,)) for i in range(3)]
    sweep(tmp_path, runs, learners)
    assert learners.rounds == {'a0': 9, 'a1': 9, 'b0': 9, 'b1': 9, 'b2': 1}
    assert statuses(tmp_path)['b2'] == 'stopped'
    more = [*runs, planned('b', (3,))]  # more seeds of a setting that was stopped
    again = Learners(curves)
    assert sweep(tmp_path, more, again) == driver.Report(0, 0, False, 1)
    assert again.started == [] and statuses(tmp_path)['b3'] == 'stopped'


def test_tasks_and_metrics_do_not_compete(tmp_path):
    learners = Learners({'a0': level(5.0), 'b0': level(1.0)})
    runs = [planned('a'), planned('b', task='reach')]
    assert sweep(tmp_path, runs, learners) == driver.Report(2, 0, False)


def test_a_setting_whose_run_failed_is_the_worst(tmp_path):
    curves = {'a0': level(5.0), 'b0': level(9.0), 'b1': level(9.0)}
    learners = Learners(curves, num_slots=3, breaks={'b0': 1})
    runs = [planned('a'), planned('b'), planned('b', (1,))]
    report = sweep(tmp_path, runs, learners)
    assert report == driver.Report(1, 1, False, 1)
    assert statuses(tmp_path) == {'a0': 'finished', 'b0': 'failed', 'b1': 'stopped'}


def test_a_sweep_that_was_stopped_knows_what_it_knew(tmp_path):
    """What is stopped stays so, and what is new is judged beside all that was found before."""
    curves = {'a0': level(5.0), 'b0': level(4.0), 'c0': level(6.0), 'd0': level(5.5)}
    learners, asked = Learners(curves), request()

    def look(name, index):
        asked.received = asked.received or (name, index) == ('c0', 2)

    learners.looked = look
    runs = [planned(name) for name in 'abcd']
    assert sweep(tmp_path, runs, learners, asked).stopped
    assert statuses(tmp_path) == {'a0': 'finished', 'b0': 'stopped', 'c0': 'running'}
    again = Learners(curves)
    again.rounds = dict(learners.rounds)
    sweep(tmp_path, runs, again)
    assert again.started == ['c0', 'd0'] and again.rounds['d0'] == 1
    assert statuses(tmp_path)['d0'] == 'stopped'


def test_a_sweep_that_is_killed_after_the_judgement_stops_the_run_later(tmp_path):
    learners = Learners({'a0': level(5.0), 'b0': level(4.0)})
    runs = [planned(name) for name in 'ab']
    sweep(tmp_path, runs, learners)
    (found,) = (one for one in result.read(tmp_path) if one.status == 'stopped')
    result.write(tmp_path, dataclasses.replace(found, status='running'))  # killed while it saved
    again = Learners(learners.curves)
    assert sweep(tmp_path, runs, again).num_weak == 1 and again.started == []
    (found,) = (one for one in result.read(tmp_path) if one.name == 'b')
    assert found.status == 'stopped' and found.scores == [4.0]


def test_without_the_flag_what_was_stopped_goes_on(tmp_path):
    learners = Learners({'a0': level(5.0), 'b0': level(4.0)})
    runs = [planned(name) for name in 'ab']
    sweep(tmp_path, runs, learners)
    left = driver.missing(tmp_path, runs)
    assert [run.name for run in left] == ['b']
    engines.run_alone(tmp_path, left, learners.engine, request())
    found = {one.name: one for one in result.read(tmp_path)}
    assert found['b'].status == 'finished' and found['b'].stopped == ''


def test_runs_begin_in_an_order_that_no_grid_has():
    runs = [planned(name, (seed,), setting=name) for name in 'cab' for seed in (1, 0)]
    assert [run.identity for run in halving.order(runs)] == ['a0', 'a1', 'b0', 'b1', 'c0', 'c1']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('factor=1', '--halving: factor: expected at least 2, found 1'),
        ('factor=x', "--halving: factor: expected an integer, found 'x'"),
        ('first=1', '--halving: first: expected between 0 and 1, found 1.0'),
        ('first=nan', '--halving: first: expected between 0 and 1, found nan'),
        ('rounds=3', "--halving: expected factor or first, found 'rounds'"),
        ('factor', "--halving: expected key=value, found 'factor'"),
    ],
)
def test_options_are_checked(text, message):
    with pytest.raises(ValueError, match=message):
        halving.read_options(text)


def test_options_are_read(monkeypatch):
    monkeypatch.setattr(halving.importlib.util, 'find_spec', lambda name: None)
    assert halving.read_options('') is None and halving.read_options('false') is None
    with pytest.raises(ValueError, match='--halving: expected the package optuna, found none'):
        halving.read_options('true')
    monkeypatch.setattr(halving.importlib.util, 'find_spec', lambda name: name)
    assert halving.read_options('true') == halving.Options(3)
    assert halving.read_options('first=0.1 factor=4') == halving.Options(4, 0.1)
    assert halving.Options(2).start() == 0.25 and halving.Options(2, 0.1).start() == 0.1


def test_a_sweep_in_which_nothing_could_be_stopped_is_refused():
    a, b = planned('a'), planned('b')
    halving.check([a, b])
    for runs, message in (
        ([a], 'expected at least two settings with the same task and eval.score, found one'),
        ([a, b._replace(task='reach')], 'expected at least two settings with the same task'),
        ([a, b._replace(overrides=[['eval.every', '9']])], 'b: config.eval.every: expected from 1'),
        ([a, b._replace(overrides=[['eval.every', '0']])], 'the 9 rounds of the run, found 0'),
    ):
        with pytest.raises(ValueError, match=message):
            halving.check(runs)
