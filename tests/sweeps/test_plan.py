"""Plans: names, configs, identities and what a later sweep of the same folder still has to do."""

import pytest

from jaxpolicy.sweeps import building, plan
from jaxpolicy.sweeps.definition import Sweep

PPO, SAC = 'configs/smoke/ppo.py', 'configs/smoke/sac.py'


def planned(sweep, before=(), build=lambda *_: plan.Built('', 4, 128)):
    return plan.plan(plan.variants(sweep), sweep, before, build)


def test_settings_are_named_by_what_differs_and_have_typed_changes():
    sweep = Sweep((PPO,), grid='agent.gamma=0.9 agent.hidden=(8,8),(16,)', num_seeds=3)
    first, second = planned(sweep)
    assert (first.name, second.name) == ('agent.hidden=[8,8]', 'agent.hidden=[16]')
    assert first.changes == {'agent.gamma': 0.9, 'agent.hidden': [8, 8]}
    assert first.overrides == [['agent.gamma', '0.9'], ['agent.hidden', '(8,8)']]
    assert first.seeds == [0, 1, 2] and first.task == 'pendulum' and first.budget == 128
    assert len({first.workdir, second.workdir}) == 2
    assert planned(Sweep((PPO,)))[0].name == 'smoke/ppo'


def test_equal_settings_are_there_once():
    assert len(planned(Sweep((PPO,), grid='agent.gamma=0.9,0.90'))) == 1


def test_a_change_applies_where_its_key_exists():
    """PPO has no tau, so that it is there once."""
    sweep = Sweep((PPO, SAC), ('loop.num_envs=8',), 'agent.tau=0.01,0.02 agent.gamma=0.9,0.95')
    found = [(run.name, dict(run.overrides)) for run in planned(sweep)]
    assert [name for name, _ in found if 'ppo' in name] == [
        'smoke/ppo agent.gamma=0.9',
        'smoke/ppo agent.gamma=0.95',
    ]
    assert len(found) == 2 + 4
    assert all(changes['loop.num_envs'] == '8' for _, changes in found)


@pytest.mark.parametrize(
    ('sweep', 'message'),
    [
        (Sweep(()), '--config: expected at least one recipe, found none'),
        (
            Sweep((PPO, SAC), grid='agent.learning_rat=1'),
            'agent.learning_rat: no recipe of .*ppo.py, .*sac.py has it; did you mean agent.learn',
        ),
        (Sweep((PPO,), ('loop.gamma=1',)), 'loop.gamma: .* did you mean agent.gamma'),
        (Sweep((PPO,), grid='agent.hidden=8 agent=1'), 'agent is a group'),
        (Sweep((PPO,), grid='loop.num_envs=4.5'), "loop.num_envs: expected an integer, found '4"),
        (Sweep((PPO,), grid='a.x=1', settings=('one',)), '--list: expected no --grid'),
        (Sweep((PPO,), num_seeds=2**33), '--seed: expected at most'),
    ],
)
def test_a_mistake_is_one_line(sweep, message):
    with pytest.raises(ValueError, match=message):
        planned(sweep)


def test_the_same_sweep_again_is_the_same_runs_and_a_larger_one_adds_new_ones():
    small = Sweep((PPO,), grid='agent.gamma=0.9,0.95', seed=1, num_seeds=2)
    before = planned(small)
    assert planned(small, before) == before
    wide = Sweep((PPO,), grid='agent.gamma=0.9,0.95,0.99', seed=0, num_seeds=5)
    after = planned(wide, before)
    assert {run.identity for run in before} <= {run.identity for run in after}
    seeds = {}
    for run in after:
        seeds.setdefault(run.name, []).append(run.seeds)
    assert seeds == {
        'agent.gamma=0.9': [[1, 2], [0], [3, 4]],
        'agent.gamma=0.95': [[1, 2], [0], [3, 4]],
        'agent.gamma=0.99': [[0, 1, 2, 3, 4]],
    }
    assert len({run.identity for run in after}) == len({run.workdir for run in after}) == 7


def test_other_data_are_another_run():
    sweep = Sweep((PPO,))
    (first,) = planned(sweep, build=lambda *_: plan.Built('a', 4, 0))
    (second,) = planned(sweep, [first], build=lambda *_: plan.Built('b', 4, 0))
    assert first.identity != second.identity and first.setting != second.setting


def test_seeds_with_a_buffer_on_the_host_are_runs_of_their_own():
    sweep = Sweep((SAC,), ('loop.buffer_on=host',), num_seeds=3)
    assert [run.seeds for run in planned(sweep)] == [[0], [1], [2]]


def test_plans_are_kept_with_those_of_before(tmp_path):
    first, second = (planned(Sweep((PPO,), grid=f'agent.gamma={x}')) for x in (0.9, 0.95))
    plan.write(tmp_path, first)
    plan.write(tmp_path, second)
    assert plan.read(tmp_path) == first + second
    (tmp_path / plan.FILE).write_text('[{}]')
    with pytest.raises(ValueError, match='plan.json: expected the plan of a sweep'):
        plan.read(tmp_path)


def test_runs_are_built_and_equal_shapes_are_traced_once():
    builder = building.Builder()
    grid = 'agent.gamma=0.9,0.95 agent.hidden=(8,),(16,) agent.learning_rate=1e-4,1e-3'
    found = planned(Sweep((PPO,), grid=grid, num_seeds=2), build=builder.build)
    assert len(found) == 8 and builder.programs == 2
    assert {(run.num_rounds, run.budget) for run in found} == {(4, 128)}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ('agent.gamma=0.9,1.5', 'agent.gamma=1.5: config.agent.gamma: expected 0 to 1, found 1.5'),
        ('agent.num_minibatches=2,3', 'agent.num_minibatches=3: '),
        ('eval.score=return,success', 'eval.score=success: config.eval.score: expected one of'),
        ('env.name=pendulum,pendulun', 'pendulun'),
    ],
)
def test_what_cannot_be_built_is_told_with_the_setting(changes, message):
    sweep = Sweep((PPO,), grid=changes)
    with pytest.raises(ValueError, match=message):
        planned(sweep, build=building.Builder().build)
