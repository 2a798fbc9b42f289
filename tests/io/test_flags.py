"""The command line: `--config` and `--config.<key>`."""

import os
import pathlib
import subprocess
import sys
from importlib import metadata

import absl.flags
import pytest
from ml_collections import config_dict

from jaxpolicy.io import flags, paths, recipe_file, settings

_ROOT = pathlib.Path(__file__).resolve().parents[2]

_CONFIG = """
from ml_collections import config_dict

def get_config():
    return config_dict.ConfigDict({
        'agent': {
            'learning_rate': 1e-3, 'num_layers': 2, 'hidden': (32, 32), 'betas': (0.9, 0.95),
            'clip': None, 'warmup': config_dict.placeholder(int), 'ema': True, 'name': 'bc',
            'extras': (), 'heads': ('mse', 'mixture'),
        },
        'num_epochs': 3,
    })
"""

_PROGRAM = """
import json
from absl import flags as absl_flags
from jaxpolicy.io import flags

CONFIG = flags.define_config(required=True)
SEED = absl_flags.DEFINE_integer('seed', 0, 'The seed.')

def main(argv):
    print(json.dumps({'config': CONFIG.value.to_dict(), 'seed': SEED.value}))

flags.run_main(main)
"""


@pytest.fixture
def config(tmp_path) -> config_dict.ConfigDict:
    (tmp_path / 'c.py').write_text(_CONFIG)
    return recipe_file.load(str(tmp_path / 'c.py'))


GOOD = [
    ('agent.learning_rate', '3e-4', 3e-4),
    ('agent.learning_rate', '1', 1.0),
    ('agent.num_layers', '1_000', 1000),
    ('num_epochs', '1e6', 1_000_000),
    ('agent.hidden', '64,64,64', (64, 64, 64)),
    ('agent.hidden', '(8,)', (8,)),
    ('agent.betas', '1,0.5', (1.0, 0.5)),
    ('agent.heads', 'mse', ('mse',)),
    ('agent.heads', 'a, b', ('a', 'b')),
    ('agent.extras', '(1, "x")', (1, 'x')),
    ('agent.clip', '0.5', 0.5),
    ('agent.clip', 'none', None),
    ('agent.warmup', '10', 10),
    ('agent.warmup', 'none', None),
    ('agent.ema', 'false', False),
    ('agent.name', '1e3', '1e3'),
]


@pytest.mark.parametrize('key,text,value', GOOD)
def test_values_take_the_type_of_the_config(config, key, text, value):
    settings.override(config, [(key, text)])
    *groups, leaf = key.split('.')
    found = config[groups[0]][leaf] if groups else config[leaf]
    assert found == value and type(found) is type(value)
    assert config.is_locked and config.agent.is_locked


BAD = [
    ('agent.learning_rat', '1', 'agent.learning_rat: no such key; did you mean agent.learning_rat'),
    ('learning_rate', '1', 'did you mean agent.learning_rate?'),
    ('num_epochs.x', '1', 'num_epochs.x: no such key; did you mean num_epochs'),
    ('agnt.learning_rate.x', '1', 'no such key'),
    ('zzz', '1', 'the keys are agent.'),
    ('agent', '1', 'agent is a group; set one of agent.'),
    ('agent.learning_rate', 'fast', "agent.learning_rate: expected a number, found 'fast'"),
    ('agent.learning_rate', 'none', "expected a number, found 'none'"),
    ('agent.num_layers', '2.0', "agent.num_layers: expected an integer, found '2.0'"),
    ('num_epochs', '1.5e0', "expected an integer, found '1.5e0'"),
    ('agent.ema', 'maybe', "expected true or false, found 'maybe'"),
    ('agent.hidden', '32,0.5', "expected a sequence of int, found '32,0.5'"),
    ('agent.hidden', 'wide', "expected a sequence of int, found 'wide'"),
    ('num_epochs', '1e30', "num_epochs: expected an integer below 2**63, found '1e30'"),
    ('agent.warmup', 'x', "agent.warmup: expected an integer, found 'x'"),
]


@pytest.mark.parametrize('key,text,message', BAD)
def test_mistakes_name_the_key(config, key, text, message):
    with pytest.raises(ValueError) as error:
        settings.override(config, [(key, text)])
    assert message in str(error.value) and '\n' not in str(error.value)


def test_a_recipe_may_import_those_beside_it(tmp_path):
    folder = tmp_path / 'configs' / 'reach'
    folder.mkdir(parents=True)
    (folder / 'ppo.py').write_text(_CONFIG)
    changed = """
from . import ppo

def get_config():
    config = ppo.get_config()
    config.num_epochs = 5
    return config
"""
    (folder / 'longer.py').write_text(changed)
    assert recipe_file.load(str(folder / 'longer.py')).num_epochs == 5
    assert recipe_file.load(str(folder / 'ppo.py')).num_epochs == 3


def test_recipes_of_installed_packages(tmp_path, monkeypatch):
    """By a dotted name, or by the name of an entry point."""
    (tmp_path / 'recipes_lab').mkdir()
    (tmp_path / 'recipes_lab' / '__init__.py').write_text('')
    (tmp_path / 'recipes_lab' / 'recipe.py').write_text(_CONFIG)
    (tmp_path / 'recipes_lab' / 'broken.py').write_text('import recipes_lab.not_there')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert recipe_file.load('recipes_lab.recipe').num_epochs == 3
    with pytest.raises(ValueError, match='broken.py, line 1: .*recipes_lab.not_there'):
        recipe_file.load('recipes_lab.broken')
    with pytest.raises(ValueError, match='--config=recipes_lab.recipes: .* no module'):
        recipe_file.load('recipes_lab.recipes')
    point = metadata.EntryPoint('lab_reach', 'recipes_lab.recipe', 'jaxpolicy.recipes')
    monkeypatch.setattr(metadata, 'entry_points', lambda group: [point])
    assert recipe_file.load('lab_reach').num_epochs == 3


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs' / 'reach').mkdir(parents=True)
    (tmp_path / 'configs' / 'reach' / 'ppo.py').write_text(_CONFIG)
    assert recipe_file.load('configs/reach/ppo.py').num_epochs == 3
    with pytest.raises(ValueError, match='did you mean configs/reach/ppo.py'):
        recipe_file.load('configs/reach/poo.py')
    (tmp_path / 'empty.py').write_text('')
    with pytest.raises(ValueError, match=r'has no get_config\(\)'):
        recipe_file.load('empty.py')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:', 'bad.py, line 1: SyntaxError'),
        ('def get_config():\n    return 1 / 0', 'bad.py, line 2: ZeroDivisionError'),
        ('import not_there', "bad.py, line 1: ModuleNotFoundError: No module named 'not_there'"),
        ('x = 1', r'has no get_config\(\), found x'),
        ('def get_config():\n    return {}', 'expected a ConfigDict of get_config.*, found dict'),
    ],
)
def test_a_recipe_that_fails_names_its_line(tmp_path, text, message):
    (tmp_path / 'bad.py').write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        recipe_file.load(str(tmp_path / 'bad.py'))
    assert '\n' not in str(error.value)


def test_installed_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    """Inside the installed package, as in a wheel; beside it, as in a checkout."""
    package = tmp_path / 'site' / 'jaxpolicy'
    monkeypatch.setattr(recipe_file, '__file__', str(package / 'io' / 'recipe_file.py'))
    monkeypatch.chdir(tmp_path)
    for folder in (package.parent / 'configs', package / 'configs'):
        (folder / 'reach').mkdir(parents=True)
        (folder / 'reach' / 'x.py').write_text(
            _CONFIG.replace("'num_epochs': 3", "'num_epochs': 4")
        )
        for name in ('configs/reach/x.py', 'reach/x.py'):
            assert recipe_file.load(name).num_epochs == 4
        with pytest.raises(ValueError, match='did you mean configs/reach/x.py'):
            recipe_file.load('configs/reach/y.py')
        (folder / 'reach' / 'x.py').write_text(_CONFIG)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('flags')
    (folder / 'c.py').write_text(_CONFIG)
    (folder / 'program.py').write_text(_PROGRAM)

    def _run(*arguments):
        return subprocess.run(
            [sys.executable, 'program.py', *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {'PYTHONPATH': str(_ROOT)},
        )

    return _run


def test_a_program(run):
    done = run('--config.num_epochs=7', '--noconfig.agent.ema', '--seed=2', '--config=c.py')
    assert done.returncode == 0, done.stderr
    assert '"num_epochs": 7' in done.stdout and '"seed": 2' in done.stdout
    assert '"ema": false' in done.stdout


MISTAKES = [
    (['--config=c.py', '--config.agent.nme=x'], 'agent.nme: no such key; did you mean agent.name'),
    (['--config=c.py', '--sead=2'], "Unknown command line flag 'sead'. Did you mean: seed"),
    (['--config=c.py', '--seed=x'], "--seed: expected an integer, found 'x'"),
    (['--config=d.py'], '--config=d.py: no such file; '),
    (['--seed=1'], '--config: expected a value, found none'),
    (['--config=c.py', 'stray'], "expected flags only, found 'stray'"),
]


@pytest.mark.parametrize('arguments,message', MISTAKES)
def test_a_program_ends_with_one_line(run, arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and done.stdout == ''
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_home_folder_is_put_in_wherever_a_flag_has_it(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    at_home = flags._at_home
    assert at_home('--config.data.path=~/a.npz,b.npz, ~/c.npz') == (
        '--config.data.path=/home/me/a.npz,b.npz,/home/me/c.npz'
    )
    for text in ('--workdir=runs/~x', '--workdir', '~/a=~/b', '--config.wrap=()', '~/x.py'):
        assert at_home(text) == text


def test_arguments_that_are_no_flags_are_paths_where_a_command_takes_some(tmp_path, monkeypatch):
    values = absl.flags.FlagValues()
    monkeypatch.setattr(absl.flags, 'FLAGS', values)
    options = {'positional': True, 'flag_values': values}
    flags.define_inputs('workdirs', None, 'Folders.', **options)
    a, b, c = (str(tmp_path / name) for name in 'abc')
    flags.parse(['command', a, f'--workdirs={b}', c])
    assert values.workdirs == [b, a, c]
    with pytest.raises(ValueError, match='--workdirs: expected a folder, found none at .*a'):
        paths.check_all()
