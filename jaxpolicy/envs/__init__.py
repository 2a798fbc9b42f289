"""Tasks by name: `resolve` finds a task's module and says what it can do.

A task's module has a frozen dataclass `Config` with a field `episode_steps`, and

  make(config, draw=None) -> types.Env         runs on the device, unbatched; or
  make_host(config) -> types.HostEnv           runs outside JAX, for evaluation only

and may have

  control_hz(config) -> float                  actions in a second, for videos and servers
  render(config, states, height, width)        uint8 [T, H, W, 3] of states [T, ...]
  goals(config) -> types.Goals                 its observations contain the goal
  EXPERT = 'module'                            whose make(config) -> Policy demonstrates the task
  RANDOMIZABLE = True                          `make` takes a draw of `wrap.randomize`
  RELATIVE = True                              actions change targets, and zeros leave them alone
  defaults(task) -> Config                     of a suite of tasks, named 'suite/task'
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxpolicy import registry

if sys.platform == 'linux' and 'DISPLAY' not in os.environ:
    os.environ.setdefault('MUJOCO_GL', 'egl')  # mujoco reads it once, when it is first imported


class Task(NamedTuple):
    """A task by its name; a field is None, '' or False if the task's module lacks it."""

    name: str
    module: Any
    config: Any  # the default Config
    make: Callable[..., Any] | None
    make_host: Callable[[Any], Any] | None
    control_hz: Callable[[Any], float] | None
    render: Callable[..., Any] | None
    goals: Callable[[Any], Any] | None
    expert: str
    randomizable: bool
    relative: bool


def resolve(name: str) -> Task:
    """Finds a task: one of ours, of Playground ('playground/<task>') or of a module (dotted name).

    Raises:
      ValueError: there is no task of that name, or its module lacks what a task must have.
      ImportError: the simulator of the task is not installed.
    """
    prefix, _, task = name.partition('/')
    module = registry.resolve('envs', prefix, 'config.env.name')
    has = vars(module)
    if not {'make', 'make_host'} & set(has) or not {'Config', 'defaults'} & set(has):
        raise ValueError(
            f'config.env.name: expected a module with Config and make (or make_host), found '
            f'{name!r} with {sorted(key for key in has if not key.startswith("_"))}'
        )
    if bool(task) != ('defaults' in has):
        expected = f"'{prefix}/<task>'" if 'defaults' in has else f'{prefix!r}'
        raise ValueError(f'config.env.name: expected {expected}, found {name!r}')
    return Task(
        name=name,
        module=module,
        config=module.defaults(task) if task else module.Config(),
        make=has.get('make'),
        make_host=has.get('make_host'),
        control_hz=has.get('control_hz'),
        render=has.get('render'),
        goals=has.get('goals'),
        expert=has.get('EXPERT', ''),
        randomizable=has.get('RANDOMIZABLE', False),
        relative=has.get('RELATIVE', False),
    )


def __getattr__(name: str) -> Any:
    """Imports a task such as `envs.pendulum` when it is first used."""
    if name in registry.TABLES['envs']:
        return importlib.import_module(registry.TABLES['envs'][name])
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
