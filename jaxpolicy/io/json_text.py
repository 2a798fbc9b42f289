"""JSON that every program reads: a number that is not finite is written as null.

The JSON standard knows no NaN and no infinity, but Python's `json` writes both.
"""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """The value as JSON text."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """The value with None in the place of each number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
