"""Names that a config may use, and the modules or objects behind them, imported only when used.

A name is one of ours ('bc'), one that an installed package registers as an entry point of the group
'jaxpolicy.<kind>', or the dotted name of somebody's module ('my_lab.my_agent') or, for samplers,
networks and wrappers, of an object in a module ('my_lab.samplers.mine'). All three work wherever a
name of ours does. CONTRIBUTING.md says what each kind of module has to define.
"""

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

_MOST_NAMES = 10  # of a folder, in a message
_AGENTS = 'jaxpolicy.agents'
_TASKS = 'jaxpolicy.envs.tasks'
_SAMPLERS = 'jaxpolicy.diffusion.samplers'

TABLES: dict[str, dict[str, str]] = {  # kind: {name: 'module' or 'module:object'}
    'agents': {
        **{name: f'{_AGENTS}.{name}' for name in ('a2c', 'bc', 'dqn', 'drifting', 'fast_td3')},
        **{name: f'{_AGENTS}.{name}' for name in ('flow_map', 'iql', 'mip', 'ppo')},
        **{name: f'{_AGENTS}.{name}' for name in ('ppo_recurrent', 'reinforce', 'sac', 'td3')},
        'diffusion': f'{_AGENTS}.diffusion_policy',
    },
    'envs': {
        **{name: f'{_TASKS}.{name}' for name in ('cartpole', 'detour', 'pendulum', 'pick')},
        **{name: f'{_TASKS}.{name}' for name in ('pusht', 'reach')},
        'playground': 'jaxpolicy.envs.adapters.playground',  # 'playground/<task>'
        'pusht_gym': 'jaxpolicy.envs.adapters.pusht_gym',
    },
    'formats': {
        'episodes': 'jaxpolicy.data.formats.npz',
        'pusht_zarr': 'jaxpolicy.data.formats.pusht_zarr',
    },
    'samplers': {
        name: f'{_SAMPLERS}:{name}'
        for name in ('ddpm', 'ddim', 'dpmpp_2m', 'heun', 'euler', 'midpoint')
    },
    'networks': {  # functions from a Config to a flax module, for agents that denoise chunks
        'unet1d': 'jaxpolicy.nets.unet1d:from_config',
        'transformer': 'jaxpolicy.nets.transformer:from_config',
        'mlp': 'jaxpolicy.nets.mlp_denoiser:from_config',
    },
    'wrappers': {},
}
REQUIRED = {  # kind: what its modules have to define; `envs.resolve` checks those of tasks
    'agents': ('Config', 'make', 'ACTING', 'LEARNS_FROM'),
    'formats': ('load', 'FROM_ENV'),
}
OBJECTS = ('samplers', 'networks', 'wrappers')  # kinds that are objects in a module, not modules


def names(kind: str) -> list[str]:
    """All names of a kind that are known without an import: ours and those of entry points."""
    return sorted({*TABLES[kind], *(point.name for point in _entry_points(kind))})


def resolve(kind: str, name: str, key: str) -> Any:
    """The module, or the object, that a name stands for.

    Args:
      kind: a key of `TABLES`.
      key: where the name was given, for the message: 'config.agent.name'.

    Raises:
      ValueError: nothing has this name, or a module of this name lacks what its kind requires.
      ImportError: the module cannot be imported, for example because an extra is not installed.
    """
    if name in TABLES[kind]:
        return _load(TABLES[kind][name])
    for point in _entry_points(kind):
        if point.name == name:
            return _checked(kind, name, key, point.load())
    if '.' in name or ':' in name:
        return _checked(kind, name, key, _foreign(kind, name, key))
    known = names(kind)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    what = 'an object in a module' if kind in OBJECTS else 'a module'
    ours = f'one of {known} or ' if known else ''
    raise ValueError(f'{key}: expected {ours}the dotted name of {what}, found {name!r}{hint}')


def beside(path: str | os.PathLike[str]) -> str:
    """Words that say what there is instead, where a file or a folder is missing."""
    wanted = Path(path).absolute()
    folder = next(parent for parent in wanted.parents if parent.is_dir())
    if folder != wanted.parent:
        return f'the nearest folder is {folder}'
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith('.'))
    except OSError as error:
        return f'{folder} cannot be read: {error.strerror}'
    if close := difflib.get_close_matches(wanted.name, names, n=1):
        return f'did you mean {folder / close[0]}?'
    more = f' and {len(names) - _MOST_NAMES} more' if len(names) > _MOST_NAMES else ''
    return f'{folder} has {", ".join(names[:_MOST_NAMES]) + more or "nothing in it"}'


def _checked(kind: str, name: str, key: str, found: Any) -> Any:
    """Raises a ValueError if somebody's module lacks what a module of its kind has to define."""
    if missing := [needed for needed in REQUIRED.get(kind, ()) if needed not in vars(found)]:
        raise ValueError(
            f'{key}: expected a module with {", ".join(REQUIRED[kind])}, found {name!r} without '
            f'{", ".join(missing)}'
        )
    return found


def _entry_points(kind: str) -> Any:
    return importlib.metadata.entry_points(group=f'jaxpolicy.{kind}')


def _load(place: str) -> Any:
    module, _, attribute = place.partition(':')
    found = importlib.import_module(module)
    return vars(found)[attribute] if attribute else found


def _foreign(kind: str, name: str, key: str) -> Any:
    """The module or object of a dotted name; errors that a module raises are passed on."""
    module, attribute = name, ''
    if kind in OBJECTS:
        module, _, attribute = name.replace(':', '.').rpartition('.')
    try:
        missing = importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # a package above the module is missing
        missing = True
    if missing:
        raise ValueError(f'{key}: expected a name that can be imported, found no module {module!r}')
    found = importlib.import_module(module)
    if not attribute:
        return found
    if attribute not in vars(found):
        raise ValueError(f'{key}: expected an object of {module!r}, found no {attribute!r} in it')
    return vars(found)[attribute]
