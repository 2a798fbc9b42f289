"""Which runs share a program."""

from jaxpolicy.sweeps import building, definition, plan, shared_programs

SMOKE = 'configs/smoke/ppo.py'


def planned(grid, num_seeds=2, recipes=(SMOKE,)):
    builder = building.Builder()
    sweep = definition.Sweep(recipes, grid=grid, num_seeds=num_seeds)
    return plan.plan(plan.variants(sweep), sweep, [], builder.build), builder


def names(groups):
    return [[run.name for run in group] for group in groups]


def test_settings_share_a_program_where_only_numbers_differ():
    runs, builder = planned(
        'agent.clip=0.1,0.2 agent.target_kl=0,0.01 agent.num_epochs=1,2', num_seeds=1
    )
    groups, why = shared_programs.share(runs, builder.look)
    assert why == [f'{SMOKE}: agent.target_kl decides what is computed']
    assert sorted(map(len, groups)) == [2] * 4
    for group in groups:
        assert {run.changes['agent.clip'] for run in group} == {0.1, 0.2}
        for key in ('agent.target_kl', 'agent.num_epochs'):
            assert len({run.changes[key] for run in group}) == 1
    alone, why = shared_programs.share(runs, builder.look, most=1)
    assert [len(group) for group in alone] == [1] * 8 and why == []


def look(configs, seeds):
    assert len(configs) == 5 and seeds == [0, 1]
    return shared_programs.Shared([], 1000)


def test_a_program_has_at_most_as_many_settings_as_asked_for():
    runs, _ = planned('agent.gamma=0.5,0.6,0.7,0.8,0.9')
    groups, why = shared_programs.share(runs, look, most=3)
    assert [len(group) for group in groups] == [3, 2] and why == []
    assert [run for group in groups for run in group] == runs
    groups, why = shared_programs.share(runs, lambda *_: shared_programs.Shared([], 1))
    assert len(groups) == 5 and why[0].startswith(f'{SMOKE}: such runs share no program')


def test_runs_at_different_rounds_do_not_share_a_program(tmp_path):
    runs, _ = planned('agent.gamma=0.5,0.6,0.7')
    for run, step in zip(runs, ('2', '2', '10'), strict=True):
        (tmp_path / run.workdir / 'checkpoints' / step).mkdir(parents=True)
    (tmp_path / runs[0].workdir / 'checkpoints' / '3.orbax-checkpoint-tmp').mkdir()
    assert shared_programs.at_one_round(tmp_path, runs) == [runs[:2], runs[2:]]
