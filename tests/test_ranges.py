"""Numbers of configs that are out of range are named before anything is built."""

import dataclasses
import importlib
import math
import pathlib

import pytest

from jaxpolicy import ranges, registry
from jaxpolicy.io import recipe_file, settings
from jaxpolicy.runs import kinds, recipe

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
        ({'hidden': (64, 0)}, r'expected at least 1, found \(64, 0\)'),
        ({'warmup': -1}, 'expected at least 0, found -1'),
        ({'limit': -0.1}, 'expected at least 0, found -0.1'),
        ({'delay': (2,)}, r'expected 2 integers, found \(2,\)'),
        ({'delay': (2, 'a')}, r"expected 2 integers, found \(2, 'a'\)"),
        ({'columns': (3,)}, r'expected names, found \(3,\)'),
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
    'path', sorted(CONFIGS.glob('*/[a-z]*.py')), ids=lambda p: f'{p.parent.name}/{p.stem}'
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
