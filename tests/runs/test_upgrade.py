"""Configs that older versions wrote, as this version reads them."""

import copy

import pytest

from jaxpolicy.io import workdir
from jaxpolicy.runs import kinds, recipe, upgrade

PRESENT = {  # kind of run: a config of this version
    'offline': lambda: recipe.offline('diffusion', 'pusht', 'episodes', 'demos.npz'),
    'offline_rl': lambda: recipe.offline_rl('iql', 'pendulum', 'demos.npz'),
    'on_policy': lambda: recipe.on_policy('ppo', 'reach'),
    'off_policy': lambda: recipe.off_policy('sac', 'reach'),
    'dagger': lambda: recipe.dagger('bc', 'detour', 'episodes', 'demos.npz'),
}
OLD_NAMES = {  # kind of run: {what it was called in format 1: what it is called now}
    'offline': {
        'loop.epochs_per_step': 'loop.epochs_per_round',
        'agent.warmup_steps': 'agent.warmup_updates',
        'agent.total_steps': 'agent.decay_updates',
    },
    'offline_rl': {
        'loop.updates_per_step': 'loop.updates_per_round',
        'loop.num_steps': 'loop.n_step',
        'agent.total_steps': 'agent.decay_updates',
    },
    'on_policy': {'loop.updates_per_step': 'loop.iterations_per_round'},
    'off_policy': {
        'loop.iterations_per_step': 'loop.iterations_per_round',
        'loop.num_steps': 'loop.n_step',
    },
    'dagger': {
        'agent.warmup_steps': 'agent.warmup_updates',
        'agent.total_steps': 'agent.decay_updates',
    },
}
KINDS = pytest.mark.parametrize('kind', sorted(kinds.KINDS))


def present(kind):
    """The contents of a config.json of this version, with numbers that no default has."""
    config = PRESENT[kind]()
    config.disturb.obs_noise = 0.125
    for name in OLD_NAMES[kind].values():
        group, field = name.split('.')
        if field in config[group]:
            config[group][field] = 77
    return _record(config)


def _record(config):
    return {
        **{'format': workdir.FORMAT, 'config': workdir.to_json(config)},
        **{'seed': 3, 'num_seeds': 2, 'versions': {'jax': '0.1'}},
    }


def aged(record):
    """The same in format 1."""
    record = copy.deepcopy(record)
    del record['format']
    config = record['config']
    config['perturb'] = config.pop('disturb')
    for old, new in OLD_NAMES[config['loop']['name']].items():
        (group, old), (_, new) = old.split('.'), new.split('.')
        if new in config[group]:
            config[group][old] = config[group].pop(new)
    return record


@KINDS
def test_old_names_become_the_present_ones(kind):
    wanted, old = present(kind), aged(present(kind))
    assert wanted['config'] != old['config']
    before = copy.deepcopy(old)
    assert upgrade.upgrade(old) == wanted
    assert old == before, 'the argument stays as it was'


@KINDS
def test_a_present_config_stays_as_it_is(kind):
    wanted = present(kind)
    assert upgrade.upgrade(copy.deepcopy(wanted)) == wanted


def test_steps_of_a_sample_have_a_name_of_their_own():
    """MIP's were called as the n of n-step returns was."""
    config = recipe.offline('mip', 'pendulum', 'episodes', 'demos.npz')
    config.agent.num_sample_steps = 1
    wanted, old = _record(config), aged(_record(config))
    old['config']['agent']['num_steps'] = old['config']['agent'].pop('num_sample_steps')
    assert upgrade.upgrade(old) == wanted


def test_how_chunks_are_executed_left_the_agent():
    config = recipe.offline('diffusion', 'pendulum', 'episodes', 'demos.npz')
    config.execute.warm_start_steps, config.execute.inpaint_actions = 3, 2
    wanted, old = _record(config), aged(_record(config))
    execute, agent = old['config']['execute'], old['config']['agent']
    agent['warm_steps'] = execute.pop('warm_start_steps')
    agent['inpaint_steps'] = execute.pop('inpaint_actions')
    assert upgrade.upgrade(old) == wanted


@KINDS
def test_what_was_gained_does_nothing_or_has_its_default(kind):
    """Groups and fields of groups, of the loop, of the agent and of the task."""
    wanted = _record(PRESENT[kind]())
    old, config = aged(wanted), wanted['config']
    gained = {'wrap': (), 'shaping': (), 'imitate': (), 'teacher': (), 'expert': (), 'begin': ()}
    for group in {*gained, 'randomize', 'augment'} & set(old['config']):
        del old['config'][group]
    for group in ('loop', 'agent', 'env'):
        field = sorted(set(config[group]) & set(old['config'][group]) - {'name'})[0]
        del old['config'][group][field]
    del old['config']['perturb']['push_speed']
    assert upgrade.upgrade(old) == wanted


def test_a_task_whose_code_is_gone_keeps_its_fields():
    wanted = present('offline')
    wanted['config']['env'] = {'name': 'robots_of_yesterday.stack', 'blocks': 3}
    assert upgrade.upgrade(aged(wanted)) == wanted


def test_a_robot_without_a_simulator():
    wanted = _record(recipe.offline('bc', '', 'episodes', 'demos.npz'))
    assert wanted['config']['env'] == {'name': ''}
    assert upgrade.upgrade(aged(wanted)) == wanted


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda record: record.update(format=workdir.FORMAT + 1),
            f'config.json: expected format {workdir.FORMAT} or older, found {workdir.FORMAT + 1}',
        ),
        (lambda record: record['config'].pop('loop'), 'expected config.loop.name, found None'),
        (lambda record: record['config']['agent'].pop('name'), 'expected config.agent.name'),
        (
            lambda record: record['config']['loop'].update(name='on_line'),
            "config.loop.name: expected one of .*'on_policy'.* found 'on_line'",
        ),
        (
            lambda record: record['config']['agent'].update(name='pppo'),
            "config.agent.name: expected one of .*found 'pppo'; did you mean 'ppo'",
        ),
    ],
)
def test_what_this_version_cannot_read(change, message):
    record = present('on_policy')
    change(record)
    with pytest.raises(ValueError, match=message):
        upgrade.upgrade(record)
