"""The kinds of runs by name, and the `Run` that each of them makes of a config.

Each module in the table `KINDS` has a frozen dataclass `Settings`, whose fields are those of the
config's group `loop`, and a function `make(config) -> Run`, which shows all that the kind does.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from jaxpolicy import ranges, registry, types
from jaxpolicy.runs import environment, groups, sections

PyTree = types.PyTree

KINDS = {  # config.loop.name: module
    'offline': 'jaxpolicy.runs.offline',  # chunks of actions from demonstrations
    'offline_rl': 'jaxpolicy.runs.offline_rl',  # values from demonstrations with rewards
    'on_policy': 'jaxpolicy.runs.on_policy',  # the current policy's own experience
    'off_policy': 'jaxpolicy.runs.off_policy',  # replayed experience
    'dagger': 'jaxpolicy.runs.dagger',  # an expert's answers to what the learner meets
}


class Run(NamedTuple):
    """What training needs besides a place to write to.

    loop: its `step` is one round.
    data: what `step` takes besides the state; () where the loop makes all experience itself.
    num_rounds: how often `step` is called.
    spec: shapes and dtypes of the observations and actions that are learnt from.
    fingerprint: text that identifies the data, so that a run goes on with the same data; '' where
      there is none.
    is_sharded: whether the environments may be spread over several devices.
    traced: the same loop as one program, for its shapes, where `loop` is Python code that calls
      several programs; else None.
    begin(num_seeds) -> (state -> state): opens another run, and gives a new state what it takes
      over from there; None where a run begins with nothing.
    keep(directory, state, round): writes files about a round, such as its episodes; or None.
    loop_of(numbers) -> the loop with other numbers in the config's group `agent`, {field: value},
      which may be traced; None where several settings cannot share a program.
    """

    loop: types.Loop
    data: PyTree
    num_rounds: int
    spec: types.Spec
    fingerprint: str = ''
    is_sharded: bool = False
    traced: types.Loop | None = None
    begin: Callable[[int], Callable[[types.LoopState], types.LoopState]] | None = None
    keep: Callable[[Path, types.LoopState, int], None] | None = None
    loop_of: Callable[[Mapping[str, Any]], types.Loop] | None = None


def module_of(name: str) -> Any:
    """The module of a kind of runs.

    Raises:
      ValueError: there is no such kind.
    """
    return importlib.import_module(KINDS[sections.choose('loop.name', KINDS, name)])


def make_run(config: config_dict.ConfigDict, *given: Any) -> Run:
    """The run that a config describes.

    Args:
      given: what replaces the config's environment or files, as the kind's `make` takes it.

    Raises:
      ValueError: the config names something that does not exist, or its numbers do not fit.
    """
    module = module_of(config.loop.name)
    groups.check(config)
    return module.make(config, *given)


def check_used(config: config_dict.ConfigDict) -> None:
    """Checks that a new run changes no field that does nothing beside the values of the others.

    A run that is continued is not checked: it may be of a version that did not.

    Raises:
      ValueError: it changes one; or a field holds what it may not.
    """
    module = module_of(config.loop.name)
    agent = registry.resolve('agents', config.agent.name, 'config.agent.name')
    found = {name: groups.of(config[name], name) for name in groups.TYPES if name in config}
    found['loop'] = sections.section(module.Settings, config.loop, 'loop')
    found['agent'] = sections.section(agent.Config, config.agent, 'agent')
    if config.env.name:
        found['env'] = environment.task_of(config)[1]
    for name, group in found.items():
        ranges.check_used(group, f'config.{name}.')
