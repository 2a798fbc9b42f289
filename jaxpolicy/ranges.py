"""What numbers a config may hold, declared as types of fields: `gamma: ranges.Share = 0.99`."""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

MAX_SEED = 2**32 - 1  # of JAX's keys


class Range(NamedTuple):
    """The numbers from `low` to `high`; `low` itself is left out where `above` is True."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def has(self, value: float) -> bool:
        """Whether the value is in the range; infinity and NaN are in none."""
        return math.isfinite(value) and (
            (self.low < value if self.above else self.low <= value) and value <= self.high
        )

    def __str__(self) -> str:
        if self.high < math.inf:
            return f'{self.low:g} to {self.high:g}'
        if self.low == -math.inf:
            return 'a finite number'
        return f'above {self.low:g}' if self.above else f'at least {self.low:g}'


Positive = Annotated[float, Range(0.0, above=True)]
NonNegative = Annotated[float, Range(0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Counts = Annotated[tuple[int, ...], Range(1)]  # each of them


def check_seeds(key: str, first: int, count: int = 1) -> None:
    """Raises a ValueError where `count` seeds from `first` on are not all in 0..MAX_SEED.

    Args:
      key: where the first one was given, for the message.
    """
    if count > MAX_SEED + 1:
        raise ValueError(f'{key}: expected at most {MAX_SEED + 1} seeds, found {count}')
    most = MAX_SEED - count + 1
    if not 0 <= first <= most:
        why = f' for {count} seeds from there on' if count > 1 else ''
        raise ValueError(f'{key}: expected 0 to {most}{why}, found {first}')


def check_tuple(key: str, hint: Any, value: Any) -> None:
    """Raises a ValueError where a tuple has another length, or other items, than its type says.

    Args:
      key: where the value was given, for the message.
      hint: a type such as tuple[int, int] or tuple[str, ...]; others are not checked.
    """
    hint = hint.__origin__ if get_origin(hint) is Annotated else hint
    if get_origin(hint) is not tuple:
        return
    kinds = get_args(hint)
    count, kind = len(kinds), kinds[0]
    of = {int: 'integers', float: 'numbers', str: 'names'}.get(kind)
    if of is None:
        return
    allowed = (int, float) if kind is float else kind
    fits = isinstance(value, tuple | list) and all(
        isinstance(item, allowed) and not isinstance(item, bool) for item in value
    )
    if kinds[-1] is Ellipsis:
        expected = of
    else:
        expected, fits = f'{count} {of}', fits and len(value) == count
    if not fits:
        raise ValueError(f'{key}: expected {expected}, found {value!r}')


def check(config: Any, prefix: str) -> None:
    """Checks the numbers of a dataclass: those with a range, and that all others are finite.

    Args:
      prefix: of the names in the message, such as 'config.agent.'.

    Raises:
      ValueError: a number is out of its range.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        check_tuple(f'{prefix}{field.name}', hints[field.name], value)
        found = [x for x in getattr(hints[field.name], '__metadata__', ()) if isinstance(x, Range)]
        allowed = found[0] if found else Range()
        for number in value if isinstance(value, tuple | list) else (value,):
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not allowed.has(number):
                raise ValueError(f'{prefix}{field.name}: expected {allowed}, found {value}')
