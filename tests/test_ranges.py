"""Numbers of configs that are out of range are named before anything is built."""

import dataclasses
import importlib
import math
import pathlib

import pytest

from jaxpolicy import ranges, registry
from jaxpolicy.io import recipe_file, settings
from jaxpolicy.runs import kinds, program, recipe

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'configs'


@dataclasses.dataclass(frozen=True)
class Config:
    gamma: ranges.Share = 0.99
    rate: ranges.Positive = 1e-3
    width: ranges.Count = 3
    hidden: ranges.Counts = (64, 64)
    warmup: ranges.CountOrZero = 0
    limit: ranges.NonNegative = 0.0
    scale: float = -1.0
    name: str = 'x'
    is_on: bool = False
    delay: tuple[int, int] = (0, 0)
    columns: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'gamma': 1.5}, 'expected 0 to 1, found 1.5'),
        ({'gamma': math.nan}, 'expected 0 to 1, found nan'),
        ({'rate': 0.0}, 'expected above 0, found 0.0'),
        ({'rate': math.inf}, 'expected above 0, found inf'),
        ({'width': 0}, 'expected at least 1, found 0'),
        ({'hidden': (64, 0)}, r'expected at least 1 in each place, found \(64, 0\)'),
        ({'warmup': -1}, 'expected at least 0, found -1'),
        ({'limit': -0.1}, 'expected at least 0, found -0.1'),
        ({'delay': (2,)}, r'expected 2 values, found \(2,\)'),
        ({'delay': (2, 'a')}, r"expected an integer in each place, found \(2, 'a'\)"),
        ({'columns': (3,)}, r'expected a text, found \(3,\)'),
        ({'scale': math.nan}, 'expected a finite number, found nan'),
    ],
)
def test_what_is_out_of_range_is_named(changes, message):
    ranges.check(Config(), 'config.agent.')
    with pytest.raises(ValueError, match=rf'config\.agent\.{next(iter(changes))}: {message}'):
        ranges.check(Config(**changes), 'config.agent.')


def test_seeds_fit_into_32_bits():
    ranges.check_seeds('--seed', 2**32 - 2, 2)
    for first, count in ((2**32 - 2, 3), (-1, 1), (0, 2**32 + 1)):
        with pytest.raises(ValueError, match='^--seed: expected'):
            ranges.check_seeds('--seed', first, count)


@pytest.mark.parametrize(
    'path',
    [path for path in sorted(CONFIGS.glob('*/[a-z]*.py')) if path.parent.name != 'sweeps'],
    ids=lambda p: f'{p.parent.name}/{p.stem}',
)
def test_the_numbers_of_every_recipe_are_in_their_ranges(path):
    if path.parent.name == 'playground':
        pytest.importorskip('mujoco_playground', reason='the extra `playground` is not installed')
    config = recipe_file.load(str(path))
    agent = registry.resolve('agents', config.agent.name, 'config.agent.name')
    loop = importlib.import_module(f'jaxpolicy.runs.{config.loop.name}')
    for kind, group in ((agent.Config, config.agent), (loop.Settings, config.loop)):
        values = {key: value for key, value in group.items() if key != 'name'}
        ranges.check(kind(**values), '')


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('agent.learning_rate', math.nan),
        ('agent.learning_rate', -1.0),
        ('agent.gamma', 1.5),
        ('agent.num_epochs', 0),
        ('agent.num_minibatches', 0),
        ('agent.hidden', (0,)),
        ('loop.num_envs', 0),
        ('loop.num_env_steps', -5),
    ],
)
def test_a_run_is_refused_before_it_begins(key, value):
    config = recipe.on_policy('ppo', 'pendulum')
    settings.override(config, [(key, str(value))])
    with pytest.raises(ValueError, match=rf'config\.{key}: expected'):
        kinds.make_run(config)


@pytest.mark.parametrize(
    ('make', 'changes', 'message'),
    [
        ('offline', {'agent.width': 256}, r"agent\.width: .*with config\.agent\.network='unet1d'"),
        (
            'offline',
            {'execute.ensemble_decay': 0.1},
            r'execute\.ensemble_decay: .*receding_hor',
        ),
        ('offline', {'execute.name': 'temporal'}, r"execute\.name: expected one of \['receding_ho"),
        ('offline', {'data.subset_seed': 1}, r'data\.subset_seed: .*data\.num_episodes=0'),
        ('offline', {'teacher.checkpoint': '3'}, r"teacher\.checkpoint: .*teacher\.workdir=''"),
        ('offline', {'augment.obs_noise': -1.0}, r'augment\.obs_noise: expected at least 0'),
        ('offline', {'eval.num_episodes': 0}, r'eval\.num_episodes: expected at least 1, found 0'),
        ('offline', {'eval.modes': ('x',)}, r'eval\.modes: expected one of'),
        ('offline', {'checkpoint.keep_last': 0}, r'checkpoint\.keep_last: expected at least 1'),
        ('on_policy', {'env.mass': 0.0}, r'env\.mass: expected above 0'),
        ('on_policy', {'disturb.action_delay': (2, 1)}, r'disturb\.action_delay: expected numbers'),
        ('on_policy', {'disturb.hidden': ('x',)}, r'disturb\.hidden: expected an integer'),
        ('on_policy', {'loop.num_envs': 10**12}, r'loop\.num_envs: expected at most 2147483647'),
        ('on_policy', {'agent.hidden': (10**9,)}, r'agent\.hidden: expected at most 1000000'),
        ('on_policy', {'agent.learning_rate': 1e300}, r'agent\.learning_rate: .*largest float32'),
        (
            'on_policy',
            {'loop.iterations_per_round': 10**9},
            r'loop\.iterations_per_round: expected',
        ),
        ('off_policy', {'loop.priority_beta': 0.5}, r'loop\.priority_beta: .*priority_exponent=0'),
        ('off_policy', {'imitate.stride': 2}, r"imitate\.stride: .*config\.imitate\.path=''"),
        ('off_policy', {'data.path': 'x.npz'}, r'data\.path: .*loop\.demo_share=0'),
        (
            'off_policy',
            {'data.path': 'x', 'loop.demo_share': 1e-4},
            r'loop\.demo_share: expected 0',
        ),
    ],
)
def test_groups_are_checked_and_what_does_nothing_is_refused(make, changes, message):
    more = ('episodes', 'x.npz') if make == 'offline' else ()
    agent = {'offline': 'diffusion', 'on_policy': 'ppo', 'off_policy': 'sac'}[make]
    config = getattr(recipe, make)(agent, 'pendulum', *more)
    for key, value in changes.items():
        group, leaf = key.split('.')
        config[group][leaf] = value
    with pytest.raises(ValueError, match=rf'^config\.{message}'):
        kinds.check_used(config)
        kinds.make_run(config)


def test_a_state_that_does_not_fit_into_memory_is_refused_before_it_is_made():
    config = recipe.off_policy('sac', 'pendulum')
    config.loop.buffer_size = 2**31 - 1
    run = kinds.make_run(config)
    shapes = run.loop.init
    huge = run._replace(loop=run.loop._replace(init=lambda key: _many(shapes(key), 10_000)))
    with pytest.raises(ValueError, match=r'config\.loop\.buffer_size.*: expected a state of at'):
        program.of_run(huge, 0, 1, None)


def _many(state, times):
    return state.replace(memory=[state.memory] * times)
