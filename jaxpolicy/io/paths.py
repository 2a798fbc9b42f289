"""Paths on the command line: what they have to be is checked before the work begins.

`~` stands for the user's home in all of them. A place for results is tried out with a small file,
so that a full disk or a folder without permission shows before hours of training do.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxpolicy import registry

PICTURES = ('.png', '.pdf', '.svg', '.jpg')  # what pictures may be
_PROBE = b'\0' * 4096  # as much as a file takes at least


class Parser(flags.ArgumentParser):
    """Parses one path.

    Args:
      folder: whether a folder is expected, or a file; None: either.
      given: whether it has to be there already.
      written: whether the command writes it, or into it.
      suffixes: with which its name may end; (): anything.
    """

    def __init__(
        self, folder: bool | None, given: bool, written: bool, suffixes: Sequence[str] = ()
    ):
        self.folder, self.given, self.written = folder, given, written
        self.suffixes = tuple(suffixes)

    def parse(self, argument: Any) -> Any:
        return os.path.expanduser(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return 'path'

    def check(self, name: str, path: str) -> None:
        """Raises a ValueError, which names the flag, where a path is not what it has to be."""
        wanted = {True: 'a folder', False: 'a file', None: 'a file or a folder'}[self.folder]
        if not path or '\0' in path:
            raise ValueError(f'--{name}: expected {wanted}, found {path!r}')
        found = kind_of(Path(path))
        if (found is None and self.given) or found not in (None, *wanted.split(' or ')):
            raise ValueError(f'--{name}: expected {wanted}, found {_instead(path, found)}')
        if self.suffixes and not path.lower().endswith(self.suffixes):
            expected = ', '.join(self.suffixes)
            raise ValueError(f'--{name}: expected a name that ends with {expected}, found {path}')
        if self.written:
            try:
                probe(Path(path), bool(self.folder))
            except OSError as error:
                reason = f'{path}: {(error.strerror or str(error)).lower()}'
                raise ValueError(
                    f'--{name}: expected a place to write to, found {reason}'
                ) from error


class ListParser(flags.ListParser):
    """Parses paths with commas between them; `one` says what each of them has to be.

    `positional`: arguments that are no flags are such paths, too.
    """

    def __init__(self, one: Parser, positional: bool = False):
        super().__init__()
        self.one, self.positional = one, positional

    def parse(self, argument: Any) -> Any:
        return [self.one.parse(part) for part in super().parse(argument)]

    def check(self, name: str, paths: list[str]) -> None:
        """Raises a ValueError where one of the paths is not what it has to be."""
        if not paths:
            raise ValueError(f'--{name}: expected at least one path, found none')
        for path in paths:
            self.one.check(name, path)


def at_home(text: str) -> str:
    """A path, or several with commas between them, with the user's folder in place of `~`."""
    return ','.join(os.path.expanduser(part.strip()) for part in text.split(','))


def check_all() -> None:
    """Checks every flag that is a path and has a value, and that numbers are finite.

    Raises:
      ValueError: a path is missing, of the wrong kind, or cannot be written to.
    """
    for name in flags.FLAGS:
        parser, value = flags.FLAGS[name].parser, flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'--{name}: expected a finite number, found {value}')
        if isinstance(parser, Parser | ListParser) and value is not None:
            parser.check(name, value)  # pyright: ignore


def kind_of(path: Path) -> str | None:
    """'a file', 'a folder', 'a device', or None where there is nothing.

    Raises:
      ValueError: the path cannot be looked at.
    """
    try:
        if path.is_dir():
            return 'a folder'
        if path.is_file():
            return 'a file'
        return 'a device' if path.exists() else None
    except OSError as error:  # such as a name that is too long
        raise ValueError(f'{str(path)!r:.100}: {error.strerror}') from error


def probe(path: Path, folder: bool) -> None:
    """Tries whether a file, or files in a folder, can be written; it leaves nothing behind.

    Raises:
      OSError: they cannot.
    """
    place = path.absolute() if folder else path.absolute().parent
    place = next(parent for parent in (place, *place.parents) if os.path.lexists(parent))
    with tempfile.NamedTemporaryFile(dir=place, prefix='.jaxpolicy-') as file:
        file.write(_PROBE)
        file.flush()
        os.fsync(file.fileno())
    if not folder and path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(13, 'Permission denied')


def write(path: str | Path, writer: Callable[[Path], Any]) -> None:
    """Writes the result of long work; where that fails, it is written into a temporary folder.

    Args:
      path: its folder is created if missing.
      writer: writes to the path that it is given.

    Raises:
      ValueError: the path could not be written; the message says where the result is instead.
      OSError: nor could the temporary folder.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path)
    except OSError as error:
        instead = Path(tempfile.mkdtemp(prefix='jaxpolicy-')) / path.name
        writer(instead)
        reason = error.strerror or str(error)
        raise ValueError(f'{path}: {reason}; the result is in {instead} instead') from error


def write_json(path: str | Path, value: Any) -> None:
    """Writes figures as JSON; where that fails, into a temporary folder, as `write` does."""
    from jaxpolicy.io import workdir  # imports JAX, which `--help` need not wait for

    write(path, lambda place: workdir.write_json(place, value))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that a JSON file has, [] where there is none.

    Raises:
      ValueError: the file is no JSON, or no list of objects.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f'{path}: not JSON: {error}') from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'{path}: expected a list of objects, found {rows!r:.100}')
    return rows


def _instead(path: str, found: str | None) -> str:
    """What is at a path, in words."""
    if found is None:
        return f'none at {path}; {registry.beside(path)}'
    return f'{found}: {path}'
