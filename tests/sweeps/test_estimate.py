"""How long a sweep will take, by the runs that have finished."""

import pytest

from jaxpolicy.sweeps import estimate, outcome, plan, plan_text, result
from tests.sweeps import engines


@pytest.fixture
def now(monkeypatch):
    """The time, which passes when a test says so."""
    time = [1000.0]
    monkeypatch.setattr(estimate.time, 'monotonic', lambda: time[0])
    return time


def finish(folder, run, train_s=40.0, compile_s=10.0, eval_s=4.0):
    """Writes the result of a finished run."""
    fields = {'train_s': train_s, 'compile_s': compile_s, 'eval_s': eval_s}
    found = outcome.collect(folder, run, 'finished')
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    result.write(folder, found)
    return found


def planned(name, seeds=(0,), **fields):
    return engines.planned(name, seeds, **({'budget': 1000} | fields))


def clock(folder, runs, num_slots=1):
    plan.write(folder, runs)
    return estimate.Clock(folder, num_slots)


def test_budgets_of_one_recipe_scale_the_time_but_not_compilation(tmp_path):
    known, twice = planned('a'), planned('b', budget=2000)
    finish(tmp_path, known)
    found = clock(tmp_path, [known, twice])
    assert found.left_s([planned('c')]) == pytest.approx(54.0)
    assert found.left_s([twice]) == pytest.approx(98.0)
    assert found.left_s([planned('c'), twice]) == pytest.approx(152.0)
    assert found.left_s([]) == 0.0
    by_rounds = planned('d', budget=0, recipe='y', num_rounds=4)  # such as runs of epochs
    finish(tmp_path, by_rounds)
    found = clock(tmp_path, [by_rounds])
    assert found.left_s([by_rounds._replace(num_rounds=6)]) == pytest.approx(76.0)


def test_a_recipe_that_no_run_finished_is_not_known(tmp_path):
    known, other = planned('a'), planned('b', recipe='configs/smoke/sac.py')
    finish(tmp_path, known)
    result.write(tmp_path, outcome.collect(tmp_path, other, 'failed'))
    assert clock(tmp_path, [known, other]).left_s([planned('c'), other]) is None


def test_runs_with_as_many_seeds_say_more(tmp_path):
    one, two = planned('a'), planned('b', (0, 1))
    finish(tmp_path, one)
    finish(tmp_path, two, train_s=80.0)
    found = clock(tmp_path, [one, two])
    assert found.left_s([planned('c')]) == pytest.approx(54.0)
    assert found.left_s([planned('c', (0, 1))]) == pytest.approx(94.0)
    assert found.left_s([planned('c', (0, 1, 2))]) == pytest.approx(74.0)  # the mean


def test_runs_share_the_slots(tmp_path):
    known = planned('a')
    finish(tmp_path, known, train_s=96.0, compile_s=0.0)
    runs = [planned(name) for name in 'bcdef']
    assert clock(tmp_path, [known], 2).left_s(runs) == pytest.approx(300.0)
    assert clock(tmp_path, [known], 5).left_s(runs) == pytest.approx(100.0)
    assert clock(tmp_path, [known], 8).left_s(runs) == pytest.approx(100.0)
    longer = [*runs[:2], planned('g', budget=4000)]
    assert clock(tmp_path, [known], 2).left_s(longer) == pytest.approx(500.0)


def test_what_is_done_of_a_run_is_not_waited_for(tmp_path, now):
    known, begun, half = planned('a'), planned('b'), planned('c')
    finish(tmp_path, known)
    found = clock(tmp_path, [known], num_slots=2)
    found.begin(begun, outcome.collect(tmp_path, begun, 'running'))
    now[0] += 30.0
    assert found.left_s([]) == pytest.approx(24.0)
    now[0] += 100.0  # it takes longer than was expected
    assert found.left_s([]) == 0.0
    engines.write_rows(tmp_path / half.workdir, [None, None])  # of four rounds
    assert found.left_s([half]) == pytest.approx(32.0)


def test_the_first_run_says_what_a_process_needs_besides(tmp_path, now):
    first, tried, second = planned('a'), planned('b'), planned('c')
    found = clock(tmp_path, [first, tried, second])
    for run in (first, tried):
        found.begin(run, outcome.collect(tmp_path, run, 'running'))
    assert found.left_s([second]) is None
    now[0] += 60.0
    found.end(first, finish(tmp_path, first))  # 54 s of these
    found.end(tried, None)
    assert found.left_s([second]) == pytest.approx(60.0)


def test_a_plan_says_its_time(tmp_path):
    runs = [planned('a'), planned('b'), planned('c', (0, 1))]
    plan.write(tmp_path, runs)
    said = plan_text.of(tmp_path, runs, engines.alone(runs), [], 1, 2, 3.0)
    assert said.splitlines() == [
        '  a, seed 0',
        '  b, seed 0',
        '  ... and 1 more',
        '3 runs of 3 settings, of which 3 are to be trained',
        'checked in 3 s',
        'the time they take is estimated once the first run is over',
    ]
    finish(tmp_path, runs[0])
    result.write(tmp_path, outcome.collect(tmp_path, runs[1], 'stopped'))
    said = plan_text.of(tmp_path, runs, engines.alone(runs[2:]), [], 2, 0, 3.0).splitlines()
    assert said[:2] == ['  a, seed 0, finished', '  b, seed 0, stopped']
    assert said[-1] == 'they take about 54 s, 2 runs at once, by the runs that have finished'
    said = plan_text.of(tmp_path, runs[:2], [], [], 2, 0, 3.0)
    assert said.splitlines()[-2:] == [
        '2 runs of 2 settings, of which 0 are to be trained',
        'checked in 3 s',
    ]
    why = ['r.py: agent.x decides what is computed']
    said = plan_text.of(tmp_path, runs, [runs[:2], runs[2:]], why, 1, 0, 3.0).splitlines()
    assert said[:3] == ['  a, seed 0, program 1', '  b, seed 0, program 1', '  c, seeds 0-1']
    assert said[4:6] == [
        '2 of them share 1 program: they differ in numbers of their agents',
        '  not in one program: r.py: agent.x decides what is computed',
    ]
    more = [*runs, planned('d', recipe='configs/smoke/sac.py')]
    said = plan_text.of(tmp_path, more, engines.alone(more[2:]), [], 1, 0, 3.0)
    assert said.endswith('the time they take is estimated once a run of each recipe is over')
