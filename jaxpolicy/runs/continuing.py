"""What may change when a run is continued, and what its scores depend on.

What is learnt may not change: a run that is continued is the same run. Its length may grow, and
settings that only matter for evaluating, saving and, in runs that learn from files, for acting may
change.
"""

import json
import zlib
from typing import Any

from ml_collections import config_dict

from jaxpolicy import registry
from jaxpolicy.io import workdir

LENGTHS = {  # kind of run: the field of config.loop that may grow
    'offline': 'num_epochs',
    'offline_rl': 'num_updates',
    'on_policy': 'num_env_steps',
    'off_policy': 'num_env_steps',
}
FROM_FILES = ('offline', 'offline_rl')  # kinds of runs in which nothing acts but evaluations
_WORLD = ('env', 'wrap', 'disturb', 'randomize', 'execute')


def may_change(config: config_dict.ConfigDict):
    """A function (key, value there, value given) -> bool for `workdir.prepare`."""
    kind = config.loop.name
    free = ['eval', 'checkpoint', *(_WORLD if kind in FROM_FILES else ())]
    acting = registry.resolve('agents', config.agent.name, 'config.agent.name').ACTING
    # The action horizon also says how many windows the demonstrations are cut into.
    keys = {f'agent.{name}' for name in acting if name != 'action_horizon'}
    keys = keys if kind in FROM_FILES else set()

    def may(key: str, there: Any, given: Any) -> bool:
        if key == f'loop.{LENGTHS.get(kind)}':
            return given > there
        return key in keys or key.split('.')[0] in free

    return may


def describe(config: config_dict.ConfigDict, lines: list[str]) -> str:
    """What a user should know of the changes, 'key: there -> given', with which a run goes on."""
    text = 'continuing with other settings:\n  ' + '\n  '.join(lines)
    length = f'loop.{LENGTHS.get(config.loop.name)}:'
    if any(line.startswith(length) for line in lines):
        text += (
            '\nwhat follows a schedule over the whole run, such as a learning rate that decays, is '
            'from here on where it would be in a run of the new length'
        )
    return text


def scored_by(config: config_dict.ConfigDict) -> int:
    """A number that differs where the scores of two evaluations cannot be compared."""
    found = workdir.to_json(config)
    how = {key: found['eval'][key] for key in ('score', 'num_episodes', 'first_seed')}
    how |= {'mode': found['eval']['modes'][:1]}
    how |= {group: found[group] for group in (*_WORLD, 'agent') if group in found}
    return zlib.crc32(json.dumps(how, sort_keys=True).encode())
