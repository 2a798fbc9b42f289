"""Reads `--config=configs/x.py --config.agent.learning_rate=3e-4` from the command line.

The syntax is that of `ml_collections.config_flags`. There are three differences: a mistake ends in
one line that names the key and the nearest name, None can be given and replaced, and the order of
the flags does not matter.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging

from jaxpolicy import ranges
from jaxpolicy.io import mistakes, paths, recipe_file, settings

_NAME = 'config'


class _ConfigParser(flags.ArgumentParser):
    def parse(self, argument: Any) -> Any:
        return recipe_file.load(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return 'path of a config'


class Recipes(NamedTuple):
    """Several recipes of one `--config`, with the changes for all of them.

    names: as they were given.
    changes: (key, text) of every `--config.<key>=<text>`.
    """

    names: list[str]
    changes: list[tuple[str, str]]


class _RecipesParser(flags.ArgumentParser):
    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        return Recipes([part.strip() for part in argument.split(',') if part.strip()], [])

    def flag_type(self) -> str:
        return 'paths of configs'


def define_recipes() -> flags.FlagHolder:
    """Defines `--config=a.py,b.py` and `--config.<key>`; `.value` of the result is a `Recipes`."""
    help_text = 'Paths of configs; --config.<key>=<value> changes a key of all that have it.'
    return flags.DEFINE(_RecipesParser(), _NAME, '', help_text)


def define_config(default: str | None = None, required: bool = False) -> flags.FlagHolder:
    """Defines `--config` and `--config.<key>`; `.value` of the result is a locked ConfigDict.

    Run the program with `run_main`, which applies the `--config.<key>` flags.
    """
    help_text = 'Path of a config, configs/<task>/<agent>.py; --config.<key>=<value> changes a key.'
    return flags.DEFINE(_ConfigParser(), _NAME, default, help_text, required=required)


def define_input(
    name: str, default: str | None, help_text: str, *, folder: bool | None, **options: Any
) -> flags.FlagHolder:
    """Defines a flag that is a path of something that is there, with `~` for the home.

    Args:
      folder: whether that is a folder, or a file; None: either.
      options: `written=True`, where the command also writes there; and those of `flags.DEFINE`.
    """
    written = options.pop('written', False)
    return flags.DEFINE(paths.Parser(folder, True, written), name, default, help_text, **options)


def define_inputs(
    name: str,
    default: list[str] | None,
    help_text: str,
    *,
    folder: bool | None = True,
    positional: bool = False,
    **options: Any,
) -> flags.FlagHolder:
    """Defines a flag that lists paths that are there, with commas between them.

    Args:
      folder: whether they are folders, or files; None: either.
      positional: whether arguments that are no flags are its paths, too.
      options: those of `flags.DEFINE`.
    """
    parser = paths.ListParser(paths.Parser(folder, True, False), positional)
    serializer = flags.CsvListSerializer(',')
    return flags.DEFINE(parser, name, default, help_text, serializer=serializer, **options)


def define_output(
    name: str,
    default: str | None,
    help_text: str,
    *,
    folder: bool = False,
    suffixes: Sequence[str] = (),
    **options: Any,
) -> flags.FlagHolder:
    """Defines a flag that is the path of a file, or a folder, which the command writes.

    `run_main` tries it out before the work begins.

    Args:
      suffixes: with which the name may end; (): anything.
      options: those of `flags.DEFINE`.
    """
    parser = paths.Parser(folder, False, True, suffixes)
    return flags.DEFINE(parser, name, default, help_text, **options)


def define_seed(name: str, default: int, help_text: str) -> flags.FlagHolder:
    """Defines a flag that is a seed, from 0 to 2**32 - 1."""
    most = ranges.MAX_SEED
    return flags.DEFINE_integer(name, default, help_text, lower_bound=0, upper_bound=most)


def define_switch(name: str, help_text: str) -> None:
    """Defines a flag that may stand alone, as 'true', or have a text; absent: ''."""
    flags.DEFINE_string(name, '', help_text)
    flags.FLAGS[name].boolean = True


def run_main(main: Callable[[list[str]], Any]) -> None:
    """Calls `absl.app.run(main)`; a mistake ends in one line, on the command line with status 2.

    A ValueError that is raised on purpose, an ImportError and an OSError are such mistakes (see
    `mistakes`) and have status 1; `--verbosity=1` also shows where they were raised. All other
    errors show their traceback.

    Of what libraries log, only warnings and errors are shown; `--verbosity=0` shows more. Compiled
    programs are kept on disk; `--compile_cache` says where (see `compile_cache`).
    """
    flags.DEFINE_string(
        'compile_cache',
        '',
        "The folder in which compiled programs are kept, or 'off'; '': the user's cache folder, or "
        'that of JAX_COMPILATION_CACHE_DIR.',
    )

    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, []):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that `--help` shows it

    def quiet_main(argv: list[str]) -> Any:
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.WARNING)
        from jaxpolicy.io import compile_cache  # imports JAX, which `--help` need not wait for

        with mistakes.in_one_line():
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
        raise ValueError(_plain(str(error))) from error
    if len(rest) > 1:
        _take_positional(rest[1:])
    if overrides:
        config = flags.FLAGS[_NAME].value if _NAME in flags.FLAGS else None
        if config is None:
            raise ValueError(f'--{_NAME}.{overrides[0][0]} is given, but no --{_NAME}')
        if isinstance(config, Recipes):
            config.changes.extend(overrides)
        else:
            settings.override(config, overrides)
    return rest


def _take_positional(arguments: list[str]) -> None:
    """Adds arguments that are no flags to the flag that lists them."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if isinstance(flag.parser, paths.ListParser) and flag.parser.positional:
            flag.value = [*(flag.value or []), *flag.parser.parse(','.join(arguments))]
            return
    raise ValueError(f'expected flags only, found {arguments[0]!r}')


def _parse_or_exit(argv: Sequence[str]) -> list[str]:
    try:
        rest = parse(argv)
        paths.check_all()
        return rest
    except (ValueError, ImportError) as error:
        mistakes.end(str(error), 2)


def _plain(text: str) -> str:
    """An error of absl in our words: '--seed: expected an integer, found 'x''."""
    found = re.fullmatch(r'flag --(\w+)=(.*?): (.*)', text, re.DOTALL)
    if not found:
        return text.replace('\n', ' ')
    name, value, reason = found.groups()
    if 'must have a value other than None' in reason:
        return f'--{name}: expected a value, found none'
    if own := re.match(rf'--{name}\b.*', reason):  # an error of a parser of ours
        return own.group().replace('\n', ' ')
    words = (
        (r'invalid literal for int', 'an integer'),
        (r'could not convert string to float', 'a number'),
        (r'.*?is not (an? .*|integer .*)', r'\1'),
        (r'.*?one of <(.*)>', r'one of \1'),
        (r'.*Non-boolean', 'true or false'),
    )
    for pattern, expected in words:
        if match := re.match(pattern, reason):
            return f'--{name}: expected {match.expand(expected)}, found {value!r}'
    return f'--{name}: {reason}, found {value!r}'.replace('\n', ' ')


def _at_home(argument: str) -> str:
    """`--flag=~/a,~/b` with the user's folder, which shells put in only where a word begins."""
    name, equals, text = argument.partition('=')
    if not (equals and argument.startswith('-') and text.startswith('~')):
        return argument
    return f'{name}={paths.at_home(text)}'


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
