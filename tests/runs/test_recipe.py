"""A recipe whose task is exchanged by its name alone."""

import dataclasses
import sys
import types
from typing import Any

import pytest

from jaxpolicy.io import settings
from jaxpolicy.runs import environment, recipe, saved

SUITE = 'tests_runs_suite'


@dataclasses.dataclass(frozen=True)
class Config:
    task: str = 'slow'
    episode_steps: int = 100
    control_hz: float = 10.0
    noise: float = 0.0


OTHERS = {'slow': Config(), 'fast': Config('fast', 25, 40.0), 'long': Config('long', 1000)}


@pytest.fixture(autouse=True)
def suite(monkeypatch):
    """A module with several tasks, as Playground has them."""
    module: Any = types.ModuleType(SUITE)
    module.__spec__ = types.SimpleNamespace(name=SUITE)
    module.Config, module.defaults, module.make = Config, OTHERS.__getitem__, None
    monkeypatch.setitem(sys.modules, SUITE, module)
    monkeypatch.setitem(recipe.registry.TABLES['envs'], 'suite', SUITE)


def changed(config, *overrides):
    """The group `env` after the command line."""
    settings.override(config, [tuple(text.split('=', 1)) for text in overrides])
    return config.env.to_dict()


def on(env, **fields):
    config = recipe.on_policy('ppo', env)
    config.env.update(fields)
    return config.lock()


def group(name, **fields):
    return {'name': name, **dataclasses.asdict(OTHERS[name.split('/')[1]]), **fields}


def test_the_name_alone_chooses_another_task_of_a_suite():
    config = on('suite/slow')
    assert changed(config, 'env.name=suite/fast') == group('suite/fast')
    assert config.is_locked and config.env.is_locked
    environment.task_of(config)  # task and name agree
    assert changed(config, 'env.name=suite/slow') == group('suite/slow')  # and back


def test_what_the_recipe_or_the_command_line_says_stays():
    config = on('suite/slow', noise=0.5, episode_steps=7)
    kept = {'noise': 0.5, 'episode_steps': 7}
    assert changed(config, 'env.name=suite/fast') == group('suite/fast', **kept)
    for given in (['env.episode_steps=100', 'env.name=suite/fast'], ['env.name=suite/fast']):
        steps = {'episode_steps': 100} if len(given) > 1 else {}  # 100 is the default of `slow`
        for order in (given, given[::-1]):
            assert changed(on('suite/slow'), *order) == group('suite/fast', **steps)
    both = ['env.task=fast', 'env.name=suite/fast']  # what had to be given before
    assert changed(on('suite/slow'), *both) == group('suite/fast')


def test_another_task_has_its_own_fields():
    """The recipe set its fields for the task that it had; those of the command line stay."""
    config = on('suite/slow', episode_steps=7)
    found = changed(config, 'env.max_torque=1.5', 'env.name=pendulum')
    assert found == {**recipe.env_group('pendulum'), 'max_torque': 1.5}
    environment.task_of(config)
    assert changed(config, 'env.name=suite/long') == group('suite/long')
    assert changed(on('suite/slow'), 'env.name=suite/slow') == group('suite/slow')


def test_mistakes_are_named():
    config = on('pendulum')
    for name, words in (('pendulums', "did you mean 'pendulum'"), ('suite', "expected 'suite/<ta")):
        with pytest.raises(ValueError, match=words):
            settings.override(config, [('env.name', name)])
    assert config.env.name == 'pendulum'  # nothing is half changed
    with pytest.raises(ValueError, match='env.max_torque: no such key'):
        settings.override(config, [('env.max_torque', '1'), ('env.name', 'suite/fast')])


def test_evaluation_may_take_another_task():
    config = on('suite/slow')
    saved.change(config, ['env.name=suite/fast'], ('env',))
    assert config.env.to_dict() == group('suite/fast')


def test_a_task_of_playground_by_its_name_alone():
    pytest.importorskip('mujoco_playground')
    config = recipe.off_policy('sac', 'playground/CartpoleBalance')
    found = changed(config, 'env.name=playground/CartpoleSwingup', 'env.action_repeat=2')
    wanted = recipe.env_group('playground/CartpoleSwingup')
    assert found == {**wanted, 'action_repeat': 2} and found['task'] == 'CartpoleSwingup'
    assert environment.task_of(config)[0].name == 'playground/CartpoleSwingup'
