"""Actions that are one of M choices: one-hot in memory, as agents and environments have them.

In files they are the choices themselves, 0 to M - 1; see `data.episodes`.
"""

from typing import Any

import numpy as np

from jaxpolicy.data import checks

MAX = 1024  # the most choices; one-hot actions are no good way to store more


def check(name: str, action: np.ndarray) -> None:
    """Checks that actions of an integer dtype are int8 [n, M], one-hot.

    Raises:
      ValueError: they are not; the message names what was expected and what was found.
    """
    if action.dtype != np.int8 or action.ndim != 2:
        raise ValueError(
            f'{name}: expected float32 [n, A], or choices as one-hot int8 [n, M], found '
            f'{action.dtype} {list(action.shape)}'
        )
    checks.array(name, action, (None, None))
    _check_number(name, action.shape[1])
    wrong = (action.min(1) != 0) | (action.sum(1, dtype=np.int64) != 1)
    if wrong.any():
        row = int(wrong.argmax())
        found = action[row].tolist()
        raise ValueError(f'{name}: expected one 1 among zeros, found {found} in row {row}')


def to_file(action: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that a file has of one-hot actions [n, M]: the choices and their number."""
    return {
        'action': action.argmax(1).astype(np.int32),
        'num_choices': np.asarray(action.shape[1], np.int64),
    }


def from_file(path: str, action: Any, num_choices: np.ndarray) -> np.ndarray:
    """One-hot actions int8 [n, M] from the arrays of a file.

    Raises:
      ValueError: the choices are not int32 [n] from 0 to M - 1, or M is no int64 from 2 to `MAX`.
    """
    name = f"{path}: 'num_choices'"
    if num_choices.shape != () or num_choices.dtype != np.int64:
        found = f'{num_choices.dtype} {list(num_choices.shape)}'
        raise ValueError(f'{name}: expected one int64, found {found}')
    _check_number(name, num := int(num_choices))
    checks.typed(f"{path}: 'action'", action, (None,), np.int32)
    if (outside := (action < 0) | (action >= num)).any():
        row = int(outside.argmax())
        message = f'expected choices from 0 to {num - 1}, found {action[row]} in row {row}'
        raise ValueError(f"{path}: 'action': {message}")
    return np.eye(num, dtype=np.int8)[action]


def _check_number(name: str, num: int) -> None:
    if not 2 <= num <= MAX:
        raise ValueError(f'{name}: expected 2 to {MAX} choices, found {num}')
