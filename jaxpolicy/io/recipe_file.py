"""Loads a recipe, which is a file or a module with `get_config()`, or with `get_sweep()`."""

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_dict

from jaxpolicy import registry

_NAME = 'config'


def load(name: str) -> config_dict.ConfigDict:
    """Loads a recipe and returns its config, locked.

    Args:
      name: a file, found from here or among the installed recipes; or the dotted name of a module;
        or a name that an installed package registers as an entry point 'jaxpolicy.recipes'.

    Raises:
      ValueError: no such recipe (the nearest is named), it has no `get_config`, or running it
        fails (the line is named).
    """
    config = run(name, 'get_config', _NAME)
    if not isinstance(config, config_dict.ConfigDict):
        kind = type(config).__name__
        raise ValueError(f'--{_NAME}={name}: expected a ConfigDict of get_config(), found {kind}')
    return config.lock()


def run(name: str, function: str, flag: str) -> Any:
    """What a function of a recipe returns.

    Args:
      name: as in `load`.
      function: its name, such as 'get_config'; it takes nothing.
      flag: the name of the flag that the recipe was given with, for messages.

    Raises:
      ValueError: as in `load`.
    """
    name = os.path.expanduser(name)
    given = f'--{flag}={name}'
    points = {p.name: p for p in importlib.metadata.entry_points(group='jaxpolicy.recipes')}
    if name in points:
        get_module = points[name].load
    elif _is_dotted(name):
        get_module = functools.partial(importlib.import_module, name)
    elif name.endswith('.py') or '/' in name:
        get_module = functools.partial(_execute, _resolve(name, given), given)
    else:
        raise ValueError(f'{given}: expected a file or a dotted name, found no module of this name')
    module = _attempt(get_module, name, given)
    if not callable(get := vars(module).get(function)):
        found = ', '.join(key for key in vars(module) if not key.startswith('_')) or 'nothing'
        raise ValueError(f'{given}: {module.__name__} has no {function}(), found {found}')
    return _attempt(get, name, given)


def _attempt(call: Callable[[], Any], name: str, given: str) -> Any:
    """Runs what a recipe consists of; its errors become one line, which names a line of it."""
    try:
        return call()
    except Exception as error:
        if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        not_theirs = (__file__, importlib.__file__, '<frozen')
        theirs = [f for f in frames if not f.filename.startswith(not_theirs)]
        file, line, text = name, None, str(error)
        if isinstance(error, SyntaxError):
            file, line, text = error.filename, error.lineno, error.msg
        elif theirs:
            file, line = theirs[0].filename, theirs[0].lineno
        place = f'{file}, line {line}: ' if line else ''
        message = f'{type(error).__name__}: {text}'.replace('\n', ' ')
        raise ValueError(f'{given}: {place}{message}') from error


def _is_dotted(name: str) -> bool:
    """Whether it is the name of a module that can be imported."""
    if name.endswith('.py') or '/' in name or '.' not in name or name.startswith('.'):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _execute(file: Path, given: str) -> types.ModuleType:
    """Runs a recipe's file as a module; it may import others of `configs` relatively."""
    file = file.resolve()
    roots = [folder for folder in file.parents if folder.name == 'configs']
    root = roots[0] if roots else file.parent
    package = types.ModuleType(f'_recipes_{zlib.crc32(str(root).encode())}')
    package.__path__ = [str(root)]
    sys.modules.setdefault(package.__name__, package)
    inside = '.'.join(file.relative_to(root).with_suffix('').parts)
    spec = importlib.util.spec_from_file_location(f'{package.__name__}.{inside}', file)
    if spec is None or spec.loader is None:
        raise ValueError(f'{given}: expected a Python file')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _installed() -> list[Path]:
    """The folder of our recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / 'configs', package.parent / 'configs']
    return [folder for folder in folders if folder.is_dir()][:1]


def _resolve(path: str, given: str) -> Path:
    here = Path(path)
    inside = Path(*here.parts[1:]) if here.parts[:1] == ('configs',) else here
    roots = _installed()
    for file in (here, *(root / inside for root in roots)):
        if file.is_file():
            return file
    known = sorted(
        {
            f'configs/{file.relative_to(root).as_posix()}'
            for root in [*roots, Path('configs')]
            for file in root.rglob('*.py')
            if file.name != '__init__.py'
        }
    )
    if here.is_dir():
        names = sorted(file.name for file in here.glob('*.py')) or ['none']
        raise ValueError(f'{given}: expected a file, found a folder with {", ".join(names)}')
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    end = f'did you mean {near[0]}?' if near else registry.beside(here)
    if not near and not here.parent.is_dir():
        end = f'there are {", ".join(known) or "none"}'
    raise ValueError(f'{given}: no such file; {end}')
