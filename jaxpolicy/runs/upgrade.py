"""Turns configs of runs that older versions made into configs of this version.

`upgrade` is the only place that knows old names. Where an old config says nothing, it assumes that
a field which a Config has gained since has its default, and that a group which recipes have gained
since does nothing. One number is not converted: PPO once counted rollouts as updates, and a run
that is continued goes on from that count.
"""

import copy
import dataclasses
import json
from typing import Any

from jaxpolicy import envs, registry
from jaxpolicy.io import workdir
from jaxpolicy.runs import kinds, recipe, sections

_LOOP = {  # kind of run: {old name: new name} in its group `loop`
    'offline': {'epochs_per_step': 'epochs_per_round'},
    'offline_rl': {'updates_per_step': 'updates_per_round', 'num_steps': 'n_step'},
    'on_policy': {'updates_per_step': 'iterations_per_round'},
    'off_policy': {'iterations_per_step': 'iterations_per_round', 'num_steps': 'n_step'},
    'dagger': {},
}
_AGENT = {'warmup_steps': 'warmup_updates', 'total_steps': 'decay_updates'}
_EXECUTE = {'warm_steps': 'warm_start_steps', 'inpaint_steps': 'inpaint_actions'}


def upgrade(record: dict[str, Any]) -> dict[str, Any]:
    """The contents of a config.json in the present format.

    Args:
      record: of any format, as JSON gives it: {'config': ..., 'seed': ..., 'format': ...}.

    Raises:
      ValueError: the file is of a newer version, or a group that every run has is missing.
    """
    found = record.get('format', 1)
    if found > workdir.FORMAT:
        raise ValueError(f'config.json: expected format {workdir.FORMAT} or older, found {found}')
    config = copy.deepcopy(record['config'])
    for group in ('agent', 'env', 'loop'):
        if 'name' not in config.get(group, {}):
            raise ValueError(
                f'config.json: expected config.{group}.name, found {config.get(group)}'
            )
    sections.choose('loop.name', kinds.KINDS, config['loop']['name'])
    if found < 2:
        _rename(config)
    _gain_groups(config)
    _gain_fields(config)
    _gain_task_fields(config)
    config = json.loads(json.dumps(config))  # defaults may be tuples, which JSON does not know
    return {**record, 'config': config, 'format': workdir.FORMAT}


def _rename(config: dict[str, Any]) -> None:
    """Renames what format 1 named before steps, rounds and updates were told apart."""
    _move(config, 'perturb', config, 'disturb')
    for old, new in _LOOP[config['loop']['name']].items():
        _move(config['loop'], old, config['loop'], new)
    for old, new in _AGENT.items():
        _move(config['agent'], old, config['agent'], new)
    if config['agent']['name'] == 'mip':
        _move(config['agent'], 'num_steps', config['agent'], 'num_sample_steps')
    if 'execute' in config:
        for old, new in _EXECUTE.items():
            _move(config['agent'], old, config['execute'], new)


def _gain_groups(config: dict[str, Any]) -> None:
    """Adds the groups and their fields that recipes have gained, with values that do nothing."""
    for group, fields in recipe.NEUTRAL[config['loop']['name']].items():
        if isinstance(fields, dict):
            config[group] = {**copy.deepcopy(fields), **config.get(group, {})}
        else:
            config.setdefault(group, fields)


def _gain_fields(config: dict[str, Any]) -> None:
    """Adds the fields that the loop's Settings and the agent's Config have gained: defaults."""
    agent = registry.resolve('agents', config['agent']['name'], 'config.agent.name')
    _fill(config['loop'], kinds.module_of(config['loop']['name']).Settings())
    _fill(config['agent'], agent.Config())


def _gain_task_fields(config: dict[str, Any]) -> None:
    """Adds the defaults of fields that the task's Config has gained, if it can be imported."""
    group = config['env']
    try:
        defaults = envs.resolve(group['name']).config if group['name'] else None
    except (ValueError, ImportError):
        return  # only the simulator needs them, and it is missing here
    if defaults is not None:
        _fill(group, defaults)


def _fill(group: dict[str, Any], defaults: Any) -> None:
    for name, value in dataclasses.asdict(defaults).items():
        group.setdefault(name, value)


def _move(old_group: dict, old: str, new_group: dict, new: str) -> None:
    if old in old_group:
        new_group[new] = old_group.pop(old)
