"""Names of a config, and what they stand for; what is not used is not imported."""

import importlib
import importlib.metadata as metadata
import json
import pathlib
import subprocess
import sys
import types

import pytest

from jaxpolicy import registry

ROOT = pathlib.Path(__file__).resolve().parents[1]
KEY = 'config.agent.name'

_IMPORTED = """
import json, sys
from jaxpolicy import registry
registry.resolve(sys.argv[1], sys.argv[2], 'config.x')
print(json.dumps(sorted(sys.modules)))
"""


def _imported_by(kind, name):
    """What a new interpreter has imported when it has resolved the name."""
    done = subprocess.run(
        [sys.executable, '-c', _IMPORTED, kind, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ('kind', 'name', 'foreign'),
    [
        ('agents', 'bc', {'jaxpolicy.envs', 'jaxpolicy.loops', 'jaxpolicy.data', 'mujoco'}),
        ('envs', 'cartpole', {'jaxpolicy.agents', 'jaxpolicy.loops', 'jaxpolicy.nets'}),
        ('formats', 'episodes', {'jaxpolicy.agents', 'jaxpolicy.envs', 'mujoco', 'tensorstore'}),
        ('samplers', 'ddim', {'jaxpolicy.agents', 'jaxpolicy.envs', 'jaxpolicy.nets', 'mujoco'}),
    ],
)
def test_a_name_of_ours_imports_what_it_stands_for_and_no_other(kind, name, foreign):
    found = _imported_by(kind, name)
    modules = {one: place.partition(':')[0] for one, place in registry.TABLES[kind].items()}
    assert modules[name] in found
    assert not (set(modules.values()) - {modules[name]}) & found
    assert not (foreign | {'orbax', 'ml_collections', 'matplotlib'}) & found


@pytest.mark.parametrize('kind', sorted(set(registry.TABLES) - set(registry.OBJECTS)))
def test_every_name_of_ours_is_a_module(kind):
    for name, place in registry.TABLES[kind].items():
        assert registry.resolve(kind, name, 'config.x') is importlib.import_module(place)
        assert registry.resolve(kind, place, 'config.x') is importlib.import_module(place)


@pytest.mark.parametrize('kind', registry.OBJECTS)
def test_every_name_of_ours_is_an_object(kind):
    for name, place in registry.TABLES[kind].items():
        module, _, attribute = place.partition(':')
        wanted = vars(importlib.import_module(module))[attribute]
        for text in (name, place, place.replace(':', '.')):
            assert registry.resolve(kind, text, 'config.x') is wanted


_MINE = """
ACTING, LEARNS_FROM = (), 'chunks'
class Config: pass
def make(config, spec): pass
def sampler(): pass
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Somebody's package: a module, and two that cannot be imported."""
    folder = tmp_path / 'some_lab'
    folder.mkdir()
    (folder / '__init__.py').write_text('')
    (folder / 'mine.py').write_text(_MINE)
    (folder / 'half.py').write_text('def make(config, spec): pass\n')
    (folder / 'needs.py').write_text('import a_simulator_that_is_not_here\n')
    (folder / 'names.py').write_text('from some_lab.mine import what_it_does_not_have\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split('.')[0] == 'some_lab']:
        del sys.modules[name]


def test_modules_of_others(lab):
    found = registry.resolve('agents', 'some_lab.mine', KEY)
    assert found is sys.modules['some_lab.mine']
    for name in ('some_lab.mine.sampler', 'some_lab.mine:sampler'):
        assert registry.resolve('samplers', name, 'agent.sampler') is found.sampler


def test_modules_of_others_that_lack_something(lab):
    with pytest.raises(ValueError, match=f'{KEY}: .*Config, make.* without Config, ACTING'):
        registry.resolve('agents', 'some_lab.half', KEY)
    with pytest.raises(ValueError, match='config.data.format: .*without load, FROM_ENV'):
        registry.resolve('formats', 'some_lab.half', 'config.data.format')


@pytest.mark.parametrize(
    ('kind', 'name', 'message'),
    [
        ('agents', 'some_lab.yours', "found no module 'some_lab.yours'"),
        ('agents', 'other_lab.mine', "found no module 'other_lab.mine'"),
        ('samplers', 'other_lab.mine.sampler', "found no module 'other_lab.mine'"),
        ('samplers', 'some_lab.mine.other', "an object of 'some_lab.mine', found no 'other' in it"),
    ],
)
def test_dotted_names_of_what_is_not_there(lab, kind, name, message):
    with pytest.raises(ValueError, match=message) as error:
        registry.resolve(kind, name, KEY)
    assert str(error.value).startswith(f'{KEY}: expected ')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('some_lab.needs', "No module named 'a_simulator_that_is_not_here'"),
        ('some_lab.names', "cannot import name 'what_it_does_not_have'"),
    ],
)
def test_a_module_that_fails_says_so_itself(lab, name, message):
    """And is no module that is not there."""
    for kind, text in (('envs', name), ('wrappers', f'{name}.wrapper')):
        with pytest.raises(ImportError, match=message):
            registry.resolve(kind, text, 'config.x')


@pytest.mark.parametrize(
    ('kind', 'name', 'words'),
    [
        ('agents', 'diffusoin', ["'bc'", "'td3'", 'a module', "did you mean 'diffusion'?"]),
        ('envs', 'pendulm', ["'pusht_gym'", 'a module', "did you mean 'pendulum'?"]),
        ('samplers', 'eular', ["'ddim'", 'an object in a module', "did you mean 'euler'?"]),
        ('formats', 'zzz', ["['episodes', 'pusht_zarr']"]),
        ('agents', '', ["found ''"]),
    ],
)
def test_unknown_names_are_told_what_there_is(kind, name, words):
    with pytest.raises(ValueError) as error:
        registry.resolve(kind, name, 'config.x.name')
    text = str(error.value)
    assert text.startswith('config.x.name: expected one of [') and f'found {name!r}' in text
    assert all(word in text for word in words) and '\n' not in text
    assert ('did you mean' in text) == (name not in ('zzz', ''))


def test_names_that_installed_packages_register(lab, monkeypatch):
    points = {
        'jaxpolicy.agents': [metadata.EntryPoint('their_agent', 'some_lab.mine', '')],
        'jaxpolicy.samplers': [metadata.EntryPoint('their_sampler', 'some_lab.mine:sampler', '')],
    }
    monkeypatch.setattr(metadata, 'entry_points', lambda group: points.get(group, []))
    found = registry.resolve('agents', 'their_agent', KEY)
    assert isinstance(found, types.ModuleType) and found.__name__ == 'some_lab.mine'
    assert registry.resolve('samplers', 'their_sampler', KEY) is found.sampler
    assert 'their_agent' in registry.names('agents') and 'bc' in registry.names('agents')
    with pytest.raises(ValueError, match=r"'their_agent'.*did you mean 'their_agent'\?"):
        registry.resolve('agents', 'ther_agent', KEY)
    with pytest.raises(ValueError, match="found 'their_agent'"):
        registry.resolve('envs', 'their_agent', 'config.env.name')


def test_names_of_ours_come_first(monkeypatch):
    point = metadata.EntryPoint('bc', 'some_lab.mine', '')
    monkeypatch.setattr(metadata, 'entry_points', lambda group: [point])
    assert registry.resolve('agents', 'bc', KEY).__name__ == 'jaxpolicy.agents.bc'
