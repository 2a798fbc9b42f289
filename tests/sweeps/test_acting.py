"""Ways of acting with what a sweep has trained: plans, what they wait for, and their results."""

import json
import types

import numpy as np
import pytest

from jaxpolicy.io import summary
from jaxpolicy.sweeps import acting_plan, building, driver, outcome, plan, result, status
from jaxpolicy.sweeps.definition import Sweep
from tests.sweeps import engines

DIFFUSION, BC = 'configs/smoke/diffusion.py', 'configs/smoke/bc.py'
NEVER = types.SimpleNamespace(received=False)
NEW = ('trained_by', 'num_episodes', 'first_seed')  # fields that plans have gained
UNCHECKED = types.SimpleNamespace(check_acting=lambda *_: None)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(driver, '_WAIT_S', 0.0)


def planned(sweep, before=(), build=lambda *_: plan.Built('', 4, 128), builder=UNCHECKED):
    variants = plan.variants(sweep)
    found = plan.plan(variants, sweep, before, build)
    return acting_plan.add(found, variants, sweep.acting, builder, sweep.num_seeds)


def test_each_run_is_followed_by_its_ways_of_acting_and_none_is_how_it_was_trained():
    acting = 'agent.action_horizon=1,8 agent.act_weights=ema,raw'
    sweep = Sweep((DIFFUSION,), grid='agent.learning_rate=0.1,0.2', acting=acting, num_seeds=2)
    found = planned(sweep)
    assert [run.name for run in found[:4]] == [
        'agent.learning_rate=0.1',
        'agent.learning_rate=0.1 agent.action_horizon=1',
        'agent.learning_rate=0.1 agent.action_horizon=1 agent.act_weights=raw',
        'agent.learning_rate=0.1 agent.act_weights=raw',
    ]
    trained, one, both, _ = found[:4]
    assert len(found) == 8 and found[4].name == 'agent.learning_rate=0.2'
    assert both.trained_by == trained.identity and trained.trained_by == ''
    assert both.changes == trained.changes | {
        'agent.action_horizon': 1,
        'agent.act_weights': 'raw',
    }
    assert one.overrides == [['agent.action_horizon', '1']] and one.seeds == [0, 1]
    assert one.workdir.startswith(f'{trained.workdir}/agent.action_horizon=1-')
    assert (one.num_episodes, one.num_rounds) == (2, 1)
    assert len({run.identity for run in found}) == len({run.workdir for run in found}) == 8
    assert planned(sweep, found) == found  # the same sweep again


def test_plans_of_before_are_read(tmp_path):
    run, _ = run_and_way()
    older = {key: value for key, value in run._asdict().items() if key not in NEW}
    (tmp_path / plan.FILE).write_text(json.dumps([older]))
    assert plan.read(tmp_path) == [run]


def test_a_key_applies_to_the_recipes_that_have_it():
    acting = 'agent.sampler=ddim agent.action_horizon=8,4'
    found = [run.name for run in planned(Sweep((DIFFUSION, BC), acting=acting))]
    assert found == [
        *('smoke/diffusion', 'smoke/diffusion agent.sampler=ddim'),
        *('smoke/diffusion agent.sampler=ddim agent.action_horizon=4', 'smoke/bc'),
        'smoke/bc agent.action_horizon=4',
    ]


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'acting': 'agent.width=8,16'}, "--acting: expected a key of .*'agent.sampler'.*, found"),
        ({'acting': 'agent.samplr=ddim'}, '^--acting: agent.samplr: no such key; did you mean ag'),
        ({'acting': 'agent.action_horizon=x'}, '--acting: agent.action_horizon: expected an int'),
        ({'acting': 'eval.score=return'}, "--acting: expected keys that .*, found 'eval.score'"),
        ({'acting': 'execute.delay=log(1,2)'}, '--acting: execute.delay: expected values, found'),
        ({'acting': 'execute.delay'}, '--acting: expected key=value'),
        (
            {'acting': 'execute.delay=1', 'overrides': ('eval.every=0',)},
            'config.eval.every: expected at least 1 with --acting',
        ),
        (
            {'acting': 'agent.clip=1,2', 'grid': 'agent.clip=3'},
            '--acting: agent.clip: expected a key that the settings which are trained do not',
        ),
    ],
)
def test_a_mistake_is_one_line(fields, message):
    with pytest.raises(ValueError, match=message):
        planned(Sweep((DIFFUSION,), **fields))


def test_ways_of_acting_are_built_and_equal_shapes_are_traced_once(demos, monkeypatch):
    traced, trace = [], building._trace_evaluation

    def count(config, *rest):
        traced.append(config.agent.action_horizon)
        trace(config, *rest)

    builder = building.Builder()
    overrides = (f'data.path={demos}', 'agent.network=mlp', 'agent.width=8', 'agent.num_blocks=1')
    sweep = Sweep((DIFFUSION,), overrides, acting='agent.clip=0.5,2 agent.action_horizon=8,2')
    variants = plan.variants(sweep)
    trained = plan.plan(variants, sweep, [], builder.build)
    monkeypatch.setattr(building, '_trace_evaluation', count)
    found = acting_plan.add(trained, variants, sweep.acting, builder, 1)
    assert len(found) == 1 + 4 and traced == [8, 2]
    wrong = {
        'agent.action_horizon=17': 'smoke/diffusion agent.action_horizon=17: .*17',
        'agent.sampler=heum': 'agent.sampler: .*heum',
        'agent.num_sample_steps=5': 'agent.num_sample_steps: expected 1 to 4',
        'agent.eta=0.5': "agent.eta: expected 0 for 'ddpm', found 0.5",
        'execute.delay=9': 'execute.delay',
        'execute.ensemble_decay=0.5': 'config.execute.ensemble_decay: expected its default',
        'disturb.obs_noise=-1.0': 'disturb.obs_noise: expected at least 0',
    }
    for acting, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            acting_plan.add(trained, variants, acting, builder, 1)


def run_and_way(name='a', seeds=(3, 4)):
    run = engines.planned(name, seeds)
    more = {'trained_by': run.identity, 'num_episodes': 5, 'first_seed': 9, 'num_rounds': 1}
    way = run._replace(
        **{'name': f'{name} agent.clip=2', 'identity': f'{run.identity}way', **more},
        **{'workdir': f'{run.workdir}/clip=2', 'overrides': [['agent.clip', '2']]},
    )
    return run, way


def evaluates(values):
    """What the command writes: the means of each seed."""

    def end(job):
        found = {'means': {'success_max': values}, 'eval_s': 2.5, 'versions': {'device': '1 x y'}}
        (job.workdir / 'summary.json').write_text(json.dumps(found))
        return 0

    return end


def trains(job):
    engines.write_rows(job.workdir, [None, [0.5, 0.25]])
    return 0


def test_a_way_of_acting_waits_for_its_run_and_has_an_ordinary_result(tmp_path):
    run, way = run_and_way()
    plan.write(tmp_path, [run, way])
    fake = engines.Engine({'a3': [trains], 'clip=2': [evaluates([0.75, None])]}, num_slots=2)
    assert (
        driver.run_all(
            tmp_path, engines.alone([way, run]), fake.engine, NEVER, ['--x']
        ).num_finished
        == 2
    )
    assert fake.most == 1 and fake.started[1] == (
        'clip=2',
        [
            *('evaluate', f'--workdir={tmp_path}/runs/a3', '--name=clip=2'),
            *('--checkpoint=latest', '--num_episodes=5', '--first_seed=9'),
            *('--override=agent.clip=2', '--x'),
        ],
    )
    trained, found = result.read(tmp_path)
    assert (found.status, found.scores, found.best) == ('finished', [0.75, None], [0.75, None])
    assert found.curve == [{'env_steps': 200, 'updates': 20, 'values': [0.75, None]}]
    assert (found.num_episodes, found.eval_s, found.device) == (5, 2.5, '1 x y')
    assert found.budget == 200 and trained.scores == [0.5, 0.25]
    assert driver.missing(tmp_path, [run, way]) == []
    assert [(x.status, x.done, x.score) for x in status.of_all(tmp_path)] == [
        ('finished', 4, 0.375),
        ('finished', 1, 0.75),
    ]


def test_without_its_run_a_way_of_acting_is_over_with_a_reason(tmp_path, capsys):
    (run, way), (early, other) = run_and_way('a'), run_and_way('b')
    result.write(tmp_path, outcome.collect(tmp_path, early, 'stopped'))
    fake = engines.Engine({'a3': [lambda job: 1] * 2})
    report = engines.run_alone(tmp_path, [run, way, other], fake.engine, NEVER)
    assert report == driver.Report(0, 2, False, 1) and {x for x, _ in fake.started} == {'a3'}
    found = {one.identity: one for one in result.read(tmp_path)}
    assert found[way.identity].status == 'failed' and found[other.identity].status == 'stopped'
    text = 'expected the run that trains it, a, to have finished, found it failed'
    assert found[way.identity].error == text and text in capsys.readouterr().out
    assert driver.missing(tmp_path, [run, way, early, other], True) == [run, way]  # both again


def test_an_evaluation_without_scores_has_failed(tmp_path):
    run, way = run_and_way()
    trains(types.SimpleNamespace(workdir=_made(tmp_path / run.workdir)))
    result.write(tmp_path, outcome.collect(tmp_path, run, 'finished'))
    fake = engines.Engine({'clip=2': [evaluates([0.5]), lambda job: 0]})
    assert engines.run_alone(tmp_path, [way], fake.engine, NEVER).num_failed == 1
    (found,) = [one for one in result.read(tmp_path) if one.identity == way.identity]
    assert 'summary.json: expected success_max of 2 seeds, found [0.5]' in found.error


def _made(path):
    path.mkdir(parents=True)
    return path


def test_means_of_seeds_leave_out_broken_episodes():
    found = summary.means_of_seeds(
        {
            'return': np.array([[1.0, 3.0], [np.nan, 5.0], [1.0, 1.0]]),
            'broken': np.array([[0, 0], [0, 0], [1, 1]]),
        }
    )
    np.testing.assert_array_equal(found['return'], [2.0, 5.0, np.nan])
    assert list(found) == ['return']
    assert summary.means_of_seeds({'return': np.array([1.0, 2.0])}) == {'return': [1.5]}
