"""Reads settings: grids of values, ranges that values are drawn from, and lists of settings."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxpolicy.io import paths

Change = tuple[str, str]  # a key of the config, and the text of its value

_PAIRS = {'(': ')', '[': ']', '{': '}'}


class Setting(NamedTuple):
    """Changes of a recipe; name: as the user wrote it, '' where the changes are the name."""

    name: str
    changes: tuple[Change, ...]


class _Range(NamedTuple):
    """Where a value is drawn from: `draw(rng)` is its text."""

    text: str
    draw: Callable[[np.random.Generator], str]


def combine(text: str, flag: str = '--grid') -> list[Setting]:
    """Every combination of the values of a grid, 'a.x=1,2 a.y=(8,8),(16,)'; the last key varies
    first.

    A value with commas stands in brackets. An empty grid is the recipe as it is.

    Args:
      flag: where the grid was given, for messages.

    Raises:
      ValueError: the text is no grid, or a key has a range.
    """
    keys = _parse(text, flag)
    for key, values in keys.items():
        for value in values:
            if isinstance(value, _Range):
                raise ValueError(
                    f'{flag}: {key}: expected values, found the range {value.text!r}, of which '
                    '--random=N draws with --grid'
                )
    choices = [[(key, str(value)) for value in values] for key, values in keys.items()]
    return [Setting('', changes) for changes in itertools.product(*choices)]


def draw(text: str, number: int, seed: int) -> list[Setting]:
    """Draws settings at random; the first ones stay the same where more are drawn.

    Args:
      text: a grid whose values may also be ranges: 'log(1e-5,1e-2)' is uniform in the logarithm,
        'uniform(0,1)' in the number, 'integer(1,8)' is an integer from 1 to 8, and 'choice(a,b)',
        like 'a,b', is one of the values.
      number: how many settings.

    Raises:
      ValueError: the text is no grid.
    """
    keys, rng, found = _parse(text), np.random.default_rng(seed), []
    if not keys:
        raise ValueError('--random: expected a --grid to draw from, found none')
    for _ in range(number):
        changes = []
        for key, values in keys.items():
            value = values[int(rng.integers(len(values)))]
            changes.append((key, value.draw(rng) if isinstance(value, _Range) else value))
        found.append(Setting('', tuple(changes)))
    return found


def read_lines(lines: Sequence[str], where: str) -> list[Setting]:
    """Settings that are written one in a line: 'name: key=value key=value'.

    The name alone is the recipe as it is. Empty lines, and what follows a '#', are left out.

    Args:
      where: the lines are from, for messages.

    Raises:
      ValueError: a line is no setting, or has the name of another one.
    """
    found: list[Setting] = []
    for number, line in enumerate(lines, start=1):
        words = _split(line.split('#')[0], ' \t\n')
        if not words:
            continue
        name, place = words[0].removesuffix(':'), f'{where}, line {number}'
        if not name or '=' in name:
            raise ValueError(f"{place}: expected 'name: key=value ...', found {line.strip()!r}")
        if name in [setting.name for setting in found]:
            raise ValueError(f'{place}: expected a name of its own, found {name!r} again')
        found.append(Setting(name, changes(words[1:], place)))
    if not found:
        raise ValueError(f'{where}: expected settings, found none')
    return found


def changes(words: str | Sequence[str], where: str) -> tuple[Change, ...]:
    """'key=value key=value' as pairs.

    Raises:
      ValueError: a word is not like that, or a key comes twice; the message begins with `where`.
    """
    found: dict[str, str] = {}
    for word in _split(words, ' \t\n') if isinstance(words, str) else words:
        key, equals, value = word.partition('=')
        key = key.lstrip('-').removeprefix('config.')
        if not key or not equals:
            raise ValueError(f'{where}: expected key=value, found {word!r}')
        if key in found:
            raise ValueError(f'{where}: expected each key once, found {key!r} again')
        # as on the command line, with which each run is trained
        found[key] = paths.at_home(value) if value.startswith('~') else value
    return tuple(found.items())


def _parse(text: str, flag: str = '--grid') -> dict[str, list[str | _Range]]:
    found = {}
    for key, values in changes(text, flag):
        parts = _split(values, ',')
        if not parts or values.rstrip().endswith(','):
            raise ValueError(f'{flag}: {key}: expected values with commas, found {values!r}')
        found[key] = [one for part in parts for one in _values(key, part)]
    return found


def _values(key: str, text: str) -> list[str | _Range]:
    """The values or the range that a text stands for."""
    name, bracket, rest = text.partition('(')
    if not bracket or not rest.endswith(')') or name not in ('choice', *_DRAWS):
        return [text]
    inside = _split(rest[:-1], ',')
    if name == 'choice':
        return list(inside)
    kind = int if name == 'integer' else float
    try:
        low, high = (kind(bound) for bound in inside)
    except ValueError as error:
        expected = f'{name}(low,high)'
        raise ValueError(f'--grid: {key}: expected {expected}, found {text!r}') from error
    least = 0.0 if name == 'log' else -math.inf
    if not (least < low < high < math.inf):
        above = ' above 0' if name == 'log' else ''
        raise ValueError(f'--grid: {key}: expected two rising numbers{above}, found {text!r}')
    return [_Range(text, lambda rng: _DRAWS[name](rng, low, high))]


_DRAWS: dict[str, Callable[[np.random.Generator, float, float], str]] = {
    'log': lambda rng, low, high: f'{math.exp(rng.uniform(math.log(low), math.log(high))):.6g}',
    'uniform': lambda rng, low, high: f'{rng.uniform(low, high):.6g}',
    'integer': lambda rng, low, high: str(rng.integers(int(low), int(high) + 1)),
}


def _split(text: str, separators: str) -> list[str]:
    """Splits a text at separators outside of brackets; empty parts are left out."""
    parts, open_ = [''], []
    for letter in text:
        if not open_ and letter in separators:
            parts.append('')
            continue
        parts[-1] += letter
        if letter in _PAIRS:
            open_.append(_PAIRS[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
    return [part.strip() for part in parts if part.strip()]
