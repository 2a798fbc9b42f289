"""What numbers a config may hold, declared as types of fields: `gamma: ranges.Share = 0.99`."""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple, get_type_hints


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
        found = [x for x in getattr(hints[field.name], '__metadata__', ()) if isinstance(x, Range)]
        allowed = found[0] if found else Range()
        for number in value if isinstance(value, tuple | list) else (value,):
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not allowed.has(number):
                raise ValueError(f'{prefix}{field.name}: expected {allowed}, found {value}')
