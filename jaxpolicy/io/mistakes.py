"""How a command ends: a mistake in what it was given is one line, a bug shows its traceback."""

import contextlib
import dis
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict

from jaxpolicy.io import paths

# Modules whose ValueErrors are not about the command line: they are raised at what calls them.
_LIBRARIES = sys.stdlib_module_names | {
    *('absl', 'chex', 'flax', 'jax', 'jaxlib', 'matplotlib', 'ml_collections', 'mujoco', 'numpy'),
    *('optax', 'orbax', 'tensorstore', 'tensorboardX'),
}
_WIDEST = 2**31  # integers of the device are smaller


def command() -> str:
    """The name of the command that runs: train, bench.rl, studies.shift."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)
    name = spec.name if spec else os.path.basename(sys.argv[0]).removesuffix('.py')
    return name.removeprefix('jaxpolicy.').removeprefix('experiments.').removesuffix('.__main__')


def end(text: str, status: int) -> NoReturn:
    """Ends the program with one line on stderr."""
    print(f'{command()}: error: {text}', file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """A context that a mistake leaves with one line and status 1; other errors pass through."""
    try:
        yield
    except Exception as error:
        if not is_mistake(error):
            raise
        if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0:
            raise
        end(describe(error), 1)


def is_mistake(error: BaseException) -> bool:
    """Whether an error is about what the command was given or found, and not a bug.

    Of ValueErrors these are the ones that a statement `raise` outside of libraries has raised; a
    library that is called in a wrong way is a bug of ours, or of somebody's agent or task.
    """
    if isinstance(error, OSError | ImportError | MemoryError | OverflowError):
        return not isinstance(error, OverflowError) or bool(_too_large())
    trace = error.__traceback__
    if not isinstance(error, ValueError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    if str(frame.f_globals.get('__name__')).split('.')[0] in _LIBRARIES:
        return False
    return frame.f_code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def describe(error: BaseException) -> str:
    """The line for a mistake."""
    if isinstance(error, OverflowError):
        return f'expected numbers below 2**31, found {", ".join(_too_large())}'
    if isinstance(error, MemoryError):
        return f'expected less work at once, found too little memory: {error}'
    if not isinstance(error, OSError) or error.strerror is None:
        text = str(error) or type(error).__name__
        return _origin(text.split(': ')[0]) + text
    reason = error.strerror.lower()
    if error.filename is None:
        places = _outputs()
        return f'{" or ".join(places)}: {reason}' if places else reason
    path = os.fspath(error.filename) if not isinstance(error.filename, int) else ''
    path = path.decode(errors='replace') if isinstance(path, bytes) else path
    return f'{_origin(path)}expected a path that can be used, found {path}: {reason}'


def _given() -> Iterator[tuple[str, Any]]:
    """Every flag and key of the config, as it is given, and its value."""
    if not flags.FLAGS.is_parsed():
        return
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, config_dict.ConfigDict):
            yield from _keys(value, f'--{name}.')
        elif flags.FLAGS[name].present:
            yield f'--{name}', value


def _keys(config: config_dict.ConfigDict, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            yield from _keys(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def _too_large() -> list[str]:
    """The integers that do not fit into 32 bits, with their flags or keys."""
    found = []
    for name, value in _given():
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int) and not -_WIDEST <= number < _WIDEST:
                found.append(f'{name}={number}')
    return found


def _origin(path: str) -> str:
    """The flag or key from which a path comes, with a colon; '' where there is none."""
    if '/' not in path and not os.path.exists(path):
        return ''
    for name, value in _given():
        for text in value if isinstance(value, list) else str(value).split(','):
            place = os.path.abspath(os.path.expanduser(str(text)))
            if text and f'{os.path.abspath(path)}/'.startswith(f'{place}/'):
                return f'{name}: '
    return ''


def _outputs() -> list[str]:
    """The flags that say where results go, with their values."""
    return [
        f'--{name}={flags.FLAGS[name].value}'
        for name in flags.FLAGS
        if isinstance(parser := flags.FLAGS[name].parser, paths.Parser)
        and parser.written
        and flags.FLAGS[name].value
    ]
