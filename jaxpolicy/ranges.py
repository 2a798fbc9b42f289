"""What a config may hold, declared as types of fields: `gamma: ranges.Share = 0.99`.

Numbers have a `Range`, names out of a set are a `typing.Literal`, and `Idle` says where a field
does nothing. A run checks all of them before it begins.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

MAX_INT = 2**31 - 1  # of int32, which arrays are counted with
MIN_FLOAT, MAX_FLOAT = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
MAX_SEED = 2**32 - 1  # of JAX's keys


class Range(NamedTuple):
    """The numbers from `low` to `high`; without `low` itself where `above` is True, without `high`
    where `below` is.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def has(self, value: float) -> bool:
        """Whether the value is in the range; infinity and NaN are in none."""
        return (isinstance(value, int) or math.isfinite(value)) and (
            (self.low < value if self.above else self.low <= value)
            and (value < self.high if self.below else value <= self.high)
        )

    def expected(self, value: float) -> str:
        """What is said of a value that the range does not have."""
        if 1_000 <= self.high < math.inf and not self.above:
            return f'at most {self.high}' if value > self.high else f'at least {self.low}'
        return str(self)

    def __str__(self) -> str:
        low, high = (f'{x}'.removesuffix('.0') for x in (self.low, self.high))
        if self.high < math.inf and self.above:
            return f'above {low} and {"below" if self.below else "at most"} {high}'
        if self.high < math.inf:
            return f'{low} to {"below " if self.below else ""}{high}'
        if self.low == -math.inf:
            return 'a finite number'
        return f'above {low}' if self.above else f'at least {low}'


class Rising(NamedTuple):
    """Says that each number of a tuple is at least the one before."""


class Idle(NamedTuple):
    """Says that a field does nothing where the field `name` has one of these values."""

    name: str
    values: tuple[Any, ...]


_FINITE = Range()
_COUNTS, _COUNTS_OR_ZERO = Range(1, MAX_INT), Range(0, MAX_INT)
Positive = Annotated[float, Range(0.0, above=True)]
Positives = Annotated[tuple[float, ...], Range(0.0, above=True)]  # each of them
NonNegative = Annotated[float, Range(0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Part = Annotated[float, Range(0.0, 1.0, above=True)]
Discount = Annotated[float, Range(0.0, 1.0, below=True)]  # of tasks without an end
Between = Annotated[float, Range(0.0, 1.0, above=True, below=True)]
Count = Annotated[int, _COUNTS]  # of what lies in arrays, whose sizes are int32
CountOrZero = Annotated[int, _COUNTS_OR_ZERO]
Counts = Annotated[tuple[int, ...], Range(1, 1_000_000)]  # each of them; sizes of layers
Activation = Literal['elu', 'gelu', 'mish', 'relu', 'swish', 'tanh']  # of `nets.mlp.ACTIVATIONS`
Total = Annotated[int, Range(1, 2**63 - 1)]  # of a whole run, which Python counts
Weights = Literal['ema', 'raw']  # that act: see `train_state.acting`
TotalOrZero = Annotated[int, Range(0, 2**63 - 1)]
Few = Annotated[int, Range(1, 1_000)]  # of what is built one by one, as layers are
FewOrZero = Annotated[int, Range(0, 1_000)]
Interval = Annotated[tuple[float, float], Range(0.0), Rising()]  # low, high
Size = Annotated[int, Range(1, 1_000_000)]  # of layers, and of tables that the host makes
SizeOrZero = Annotated[int, Range(0, 1_000_000)]


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


def check(config: Any, prefix: str) -> None:
    """Checks the fields of a dataclass: their types, ranges and choices; numbers are finite.

    Args:
      prefix: of the names in the message, such as 'config.agent.'.

    Raises:
      ValueError: a field holds what it may not.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if hasattr(value, 'aval'):  # traced by JAX, after its values were checked
            continue
        if expected := _expected(hints[field.name], value):
            raise ValueError(f'{prefix}{field.name}: expected {expected}, found {value!r}')


def check_used(config: Any, prefix: str) -> None:
    """Checks that fields which do nothing here have their defaults, as others would mislead.

    Raises:
      ValueError: a field was changed that does nothing beside the value of another field.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for rule in _notes(hints[field.name], Idle):
            other = getattr(config, rule.name)
            if other in rule.values and value != field.default:
                raise ValueError(
                    f'{prefix}{field.name}: expected its default {field.default!r}, as it does '
                    f'nothing with {prefix}{rule.name}={other!r}, found {value!r}'
                )


def _expected(hint: Any, value: Any) -> str:
    """What a field of this type may hold; '' where the value is that."""
    allowed = next(iter(_notes(hint, Range)), _FINITE)
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) is not tuple:
        return _expected_one(kind, allowed, value)
    kinds = get_args(kind)
    each = kinds[0] if kinds[1:] == (...,) else None
    if not isinstance(value, tuple | list):
        return 'a tuple'
    if each is None and len(value) != len(kinds):
        return f'{len(kinds)} values'
    for kind, item in zip([each] * len(value) if each else kinds, value, strict=True):
        if found := _expected_one(kind, allowed, item):
            return f'{found} in each place' if len(value) > 1 else found
    if _notes(hint, Rising) and list(value) != sorted(value):
        return 'numbers that do not fall'
    return ''


def _expected_one(kind: Any, allowed: Range, value: Any) -> str:
    if get_origin(kind) is Literal:
        return '' if value in get_args(kind) else f'one of {sorted(get_args(kind))}'
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str:
        return '' if isinstance(value, str) else 'a text'
    if kind is bool:
        return '' if isinstance(value, bool) else 'True or False'
    if kind is int and not (is_number and isinstance(value, int)):
        return 'an integer'
    if kind is float and not is_number:
        return str(allowed)
    if not is_number:  # a type that this module does not know
        return ''
    if not allowed.has(value):
        return allowed.expected(value)
    if kind is float and abs(value) > MAX_FLOAT:
        return f'at most {MAX_FLOAT:.3g}, the largest float32'
    if kind is float and allowed.above and value < MIN_FLOAT:
        return f'at least {MIN_FLOAT:.3g}, the smallest float32'
    return ''


def _notes(hint: Any, kind: type) -> list[Any]:
    return [x for x in getattr(hint, '__metadata__', ()) if isinstance(x, kind)]
