"""The recipes of sweeps in configs/sweeps: their settings are what their recipes have."""

import pathlib

import pytest

from jaxpolicy.io import recipe_file
from jaxpolicy.sweeps import plan

FOLDER = pathlib.Path('configs/sweeps')
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem != '__init__')
FEW_SEEDS = {'pendulum'}  # to try the commands with


@pytest.mark.parametrize('name', NAMES)
def test_a_sweep_has_a_question_and_settings_that_differ(name):
    sweep = recipe_file.run(str(FOLDER / f'{name}.py'), 'get_sweep', 'sweep')
    found = plan.variants(sweep)
    configs = [str(variant.config) for variant in found]
    assert len(set(configs)) == len(configs) and (configs[1:] or sweep.acting)
    assert sweep.question.endswith('?') and sweep.expected
    assert sweep.num_seeds >= 5 or name in FEW_SEEDS


@pytest.mark.parametrize('name', [name for name in NAMES if name.endswith('_full')])
def test_a_full_size_has_a_small_one_that_was_run(name):
    assert name.removesuffix('_full') in NAMES
    assert 'Not run yet' in (FOLDER / f'{name}.py').read_text()
