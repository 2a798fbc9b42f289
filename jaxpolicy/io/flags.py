"""Reads `--config=configs/x.py --config.agent.learning_rate=3e-4` from the command line.

The syntax is that of `ml_collections.config_flags`. There are three differences: a mistake ends in
one line that names the key and the nearest name, None can be given and replaced, and the order of
the flags does not matter.
"""

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_dict

_NAME = 'config'
# What becomes of a group when its key `name` is changed: group -> (its values, the new name) -> the
# new values. `runs.recipe` adds that of `env`; other groups keep their fields.
EXCHANGES: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {}
_TRUE, _FALSE = ('true', '1', 'yes'), ('false', '0', 'no')


class _ConfigParser(flags.ArgumentParser):
    def parse(self, argument: Any) -> Any:
        return load(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return 'path of a config'


def define_config(default: str | None = None, required: bool = False) -> flags.FlagHolder:
    """Defines `--config` and `--config.<key>`; `.value` of the result is a locked ConfigDict.

    Run the program with `run_main`, which applies the `--config.<key>` flags.
    """
    help_text = 'Path of a config, configs/<task>/<agent>.py; --config.<key>=<value> changes a key.'
    return flags.DEFINE(_ConfigParser(), _NAME, default, help_text, required=required)


def run_main(main: Callable[[list[str]], Any]) -> None:
    """Calls `absl.app.run(main)`; a mistake on the command line ends in one line and status 2.

    Of what libraries log, only warnings and errors are shown; `--verbosity=0` shows more. Compiled
    programs are kept on disk; `--compile_cache` says where (see `compile_cache`).
    """
    flags.DEFINE_string(
        'compile_cache',
        '',
        "The folder in which compiled programs are kept, or 'off'; '': the user's cache folder, or "
        'that of JAX_COMPILATION_CACHE_DIR.',
    )

    def quiet_main(argv: list[str]) -> Any:
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.WARNING)
        from jaxpolicy.io import compile_cache  # imports JAX, which `--help` need not wait for

        compile_cache.use(flags.FLAGS.compile_cache)
        return main(argv)

    app.run(quiet_main, flags_parser=_parse_or_exit)


def parse(argv: Sequence[str]) -> list[str]:
    """Parses `argv` (program name first) into `flags.FLAGS`; returns what is not a flag.

    Raises:
      ValueError: an unknown flag, key or file, or a wrong type.
    """
    overrides, others = _split([_at_home(argument) for argument in argv])
    try:
        rest = flags.FLAGS(others)
    except flags.Error as error:
        raise ValueError(str(error).replace('\n', ' ')) from error
    if len(rest) > 1:
        raise ValueError(f'expected flags only, found {rest[1]!r}')
    if overrides:
        config = flags.FLAGS[_NAME].value if _NAME in flags.FLAGS else None
        if config is None:
            raise ValueError(f'--{_NAME}.{overrides[0][0]} is given, but no --{_NAME}')
        override(config, overrides)
    return rest


def override(config: config_dict.ConfigDict, overrides: Sequence[tuple[str, str]]) -> None:
    """Sets dotted keys from text, in place, each with the type that the config has there.

    None (`none`) can be set where the config holds None or a placeholder. Sequences are written
    `3,4` or `(3,4)`. Names of groups in `EXCHANGES` come first, whatever the order.

    Raises:
      ValueError: an unknown key (the nearest is named), or text of another type.
    """
    names = [f'{name}.name' for name in EXCHANGES]
    for key, text in sorted(overrides, key=lambda pair: pair[0] not in names):
        group, leaf = _find(config, key)
        value = _convert(key, text, group[leaf], group.get_type(leaf))
        if key in names and value != group[leaf]:
            name = key.split('.')[0]
            fields = EXCHANGES[name](group.to_dict(), value)
            with config.unlocked():
                config[name] = config_dict.ConfigDict(fields)
            continue
        with group.unlocked():
            group[leaf] = value


def load(name: str) -> config_dict.ConfigDict:
    """Loads a recipe and returns its config, locked.

    Args:
      name: a file, found from here or among the installed recipes; or the dotted name of a module;
        or a name that an installed package registers as an entry point 'jaxpolicy.recipes'.

    Raises:
      ValueError: no such recipe (the nearest is named), or it has no `get_config`.
    """
    points = {p.name: p for p in importlib.metadata.entry_points(group='jaxpolicy.recipes')}
    if name in points:
        module = points[name].load()
    elif _is_dotted(name):
        module = importlib.import_module(name)
    elif name.endswith('.py') or '/' in name:
        module = _execute(_resolve(name), name)
    else:
        raise ValueError(
            f'--{_NAME}={name}: expected a file or a dotted name, found no module of this name'
        )
    if 'get_config' not in vars(module):
        raise ValueError(f'--{_NAME}={name}: {module.__name__} has no get_config()')
    return module.get_config().lock()


def _is_dotted(name: str) -> bool:
    """Whether it is the name of a module that can be imported."""
    if name.endswith('.py') or '/' in name or '.' not in name or name.startswith('.'):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _execute(file: Path, name: str) -> types.ModuleType:
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
        raise ValueError(f'--{_NAME}={name}: expected a Python file')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parse_or_exit(argv: Sequence[str]) -> list[str]:
    try:
        return parse(argv)
    except (ValueError, ImportError) as error:
        print(f'{Path(argv[0]).stem}: error: {error}', file=sys.stderr)
        sys.exit(2)


def _at_home(argument: str) -> str:
    """`--flag=~/a,~/b` with the user's folder, which shells put in only where a word begins."""
    name, equals, text = argument.partition('=')
    if not (equals and argument.startswith('-') and text.startswith('~')):
        return argument
    return f'{name}={",".join(os.path.expanduser(part.strip()) for part in text.split(","))}'


def _split(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Takes `--config.key=value`, `--config.key value`, `--config.key` and `--noconfig.key` out."""
    overrides, others = [], []
    index = 0
    while index < len(argv):
        argument = argv[index]
        index += 1
        if argument == '--':
            return overrides, others + list(argv[index - 1 :])
        name, equals, text = argument.lstrip('-').partition('=')
        if index == 1 or not argument.startswith('-'):
            others.append(argument)
        elif name.startswith(f'no{_NAME}.') and not equals:
            overrides.append((name.removeprefix(f'no{_NAME}.'), 'false'))
        elif not name.startswith(f'{_NAME}.'):
            others.append(argument)
        else:
            if not equals and index < len(argv) and not argv[index].startswith('--'):
                text = argv[index]
                index += 1
            elif not equals:
                text = 'true'
            overrides.append((name.removeprefix(f'{_NAME}.'), text))
    return overrides, others


def keys(config: config_dict.ConfigDict, prefix: str = '') -> list[str]:
    """The dotted names of everything that can be set."""
    found = []
    for name, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            found += keys(value, f'{prefix}{name}.')
        else:
            found.append(prefix + name)
    return found


def _find(config: config_dict.ConfigDict, key: str) -> tuple[config_dict.ConfigDict, str]:
    *groups, leaf = key.split('.')
    node: Any = config
    for name in groups:
        if not isinstance(node, config_dict.ConfigDict) or name not in node:
            raise ValueError(_unknown(config, key))
        node = node[name]
    if not isinstance(node, config_dict.ConfigDict) or leaf not in node:
        raise ValueError(_unknown(config, key))
    value = node[leaf]
    if isinstance(value, config_dict.ConfigDict):
        inside = ', '.join(f'{key}.{name}' for name in keys(value))
        hint = f'set one of {inside}' if inside else 'it is empty, and only a recipe can fill it'
        raise ValueError(f'--{_NAME}.{key} is a group; {hint}')
    return node, leaf


def _unknown(config: config_dict.ConfigDict, key: str) -> str:
    names = keys(config)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    leaf = key.rsplit('.', 1)[-1]
    same = [name for name in names if name.rsplit('.', 1)[-1] == leaf]
    hint = list(dict.fromkeys(same + near))[:3]
    end = f'did you mean {" or ".join(hint)}?' if hint else f'the keys are {", ".join(names)}'
    return f'--{_NAME}.{key}: no such key; {end}'


def _convert(key: str, text: str, old: Any, kind: type) -> Any:
    if old is None and text.lower() == 'none':
        return None
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError(_wrong(key, 'true or false', text))
    if kind in (int, float):
        return _number(key, text, kind)
    if kind in (tuple, list):
        return kind(_sequence(key, text, old or ()))
    return text if kind is str else _literal(text)


def _number(key: str, text: str, kind: type) -> int | float:
    try:
        return kind(text)
    except ValueError as error:
        if kind is int and 'e' in text.lower():  # 1e6 steps
            value = _literal(text)
            if isinstance(value, float) and value.is_integer():
                return int(value)
        expected = 'an integer' if kind is int else 'a number'
        raise ValueError(_wrong(key, expected, text)) from error


def _sequence(key: str, text: str, old: Sequence[Any]) -> list[Any]:
    value = _literal(text)
    if not isinstance(value, tuple | list):
        value = [_literal(part.strip()) for part in text.split(',') if part.strip()]
    kinds = {type(item) for item in old}
    if len(kinds) != 1:
        return list(value)
    kind = kinds.pop()
    value = [float(item) if kind is float and type(item) is int else item for item in value]
    if any(type(item) is not kind for item in value):
        raise ValueError(_wrong(key, f'a sequence of {kind.__name__}', text))
    return value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _wrong(key: str, expected: str, text: str) -> str:
    return f'--{_NAME}.{key}: expected {expected}, found {text!r}'


def _installed() -> list[Path]:
    """The folder of our recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / 'configs', package.parent / 'configs']
    return [folder for folder in folders if folder.is_dir()][:1]


def _resolve(path: str) -> Path:
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
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
    end = f'did you mean {near[0]}?' if near else f'there are {", ".join(known) or "none"}'
    raise ValueError(f'--{_NAME}={path}: no such file; {end}')
