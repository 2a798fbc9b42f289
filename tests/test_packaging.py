"""What a pip user gets: one top-level name, every command, every recipe."""

import pathlib
import sys
import tomllib

import pytest

from jaxpolicy import __main__ as commands
from jaxpolicy.io import recipe_file

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _packages(folder, prefix):
    """Every folder with Python files, as a package below `prefix`."""
    folders = {path.parent.relative_to(ROOT / folder) for path in (ROOT / folder).rglob('*.py')}
    return {'.'.join([prefix, *folder.parts]) for folder in folders}


def test_the_wheel_has_every_folder_and_claims_one_top_level_name():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    listed = project['tool']['setuptools']['packages']
    wanted = _packages('jaxpolicy', 'jaxpolicy')
    wanted |= _packages('experiments', 'jaxpolicy.experiments')
    wanted |= _packages('configs', 'jaxpolicy.configs')
    assert set(listed) == wanted and len(set(listed)) == len(listed)
    assert {name.split('.')[0] for name in listed} == {'jaxpolicy'}
    assert project['project']['scripts'] == {'jaxpolicy': 'jaxpolicy.__main__:main'}


def test_every_command_is_listed_with_what_it_does(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['jaxpolicy'])
    commands.main()
    out = capsys.readouterr().out
    for path in (ROOT / 'experiments').glob('[a-z]*.py'):
        assert f'  {path.stem} ' in out
    assert 'Trains any agent' in out


def test_an_unknown_command_is_one_line_with_the_nearest(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['jaxpolicy', 'trian'])
    with pytest.raises(SystemExit, match="found 'trian'; did you mean 'train'"):
        commands.main()


def test_commands_are_run_with_their_own_arguments(monkeypatch):
    ran = []
    monkeypatch.setattr(sys, 'argv', ['jaxpolicy', 'bench.rl', '--config=x'])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(
        commands.runpy, 'run_module', lambda name, **how: ran.append((name, how, sys.argv))
    )
    commands.main()
    ((name, how, argv),) = ran
    assert name == 'experiments.bench.rl' and how['run_name'] == '__main__'
    assert argv == ['bench.rl', '--config=x']


def test_recipes_are_found_from_any_folder_and_import_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = recipe_file.load('configs/pendulum/td3.py')
    assert config.agent.name == 'td3' and config.agent.hidden == (64, 64)


def test_a_recipe_of_ones_own_may_import_its_neighbours(tmp_path):
    folder = tmp_path / 'configs' / 'mine'
    folder.mkdir(parents=True)
    (folder / 'first.py').write_text(
        'from jaxpolicy.runs import recipe\n\n\ndef get_config():\n'
        "    return recipe.on_policy('ppo', 'pendulum')\n"
    )
    (folder / 'second.py').write_text(
        'from . import first\n\n\ndef get_config():\n    config = first.get_config()\n'
        '    config.loop.num_envs = 7\n    return config\n'
    )
    assert recipe_file.load(str(folder / 'second.py')).loop.num_envs == 7
