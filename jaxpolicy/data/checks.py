"""Checks of arrays that come from outside, such as files, made once where they enter.

Each check raises a ValueError that names the array, what was expected and what was found.
"""

from typing import Any

import numpy as np

TOLERANCE = 1e-5  # how far float32 rounding may put an action outside [-1, 1]


def array(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Checks that an array has the shape (None: any length but 0) and only finite values."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'fiu':
        found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f'{name}: expected an array of numbers, found {found}')
    expected = str(['any' if size is None else size for size in shape]).replace("'", '')
    matches = len(value.shape) == len(shape) and all(
        want is None or want == size for want, size in zip(shape, value.shape, strict=True)
    )
    if not matches:
        raise ValueError(f'{name}: expected shape {expected}, found {list(value.shape)}')
    if value.size == 0:
        raise ValueError(f'{name}: expected data, found an empty array of shape {value.shape}')
    if value.dtype.kind == 'f' and not (finite := np.isfinite(value)).all():
        row = int(np.argwhere(~finite)[0][0])
        count = int((~finite).sum())
        raise ValueError(f'{name}: expected finite values, found {count} that are not, row {row}')


def typed(name: str, value: Any, shape: tuple[int | None, ...], dtype: Any) -> None:
    """Checks what `array` checks, and that the array has this dtype."""
    array(name, value, shape)
    if value.dtype != dtype:
        raise ValueError(f'{name}: expected {np.dtype(dtype)}, found {value.dtype}')


def action(name: str, value: Any) -> None:
    """Checks that actions are float32 [n, A] in [-1, 1]."""
    typed(name, value, (None, None), np.float32)
    if (largest := float(np.abs(value).max())) > 1.0 + TOLERANCE:
        row = int(np.abs(value).max(1).argmax())
        message = f'expected values in [-1, 1], found magnitude {largest:g} in row {row}'
        raise ValueError(f'{name}: {message}')


def obs(name: str, flat: dict[str, Any], rows: int) -> None:
    """Checks that the parts of an observation, by name, are float32 or uint8 [rows, ...]."""
    if not flat:
        raise ValueError(f"{name}: 'obs': expected at least one array, found none")
    for key, part in flat.items():
        trailing = part.shape[1:] if isinstance(part, np.ndarray) else ()
        array(f'{name}: {key!r}', part, (rows, *trailing))
        if part.dtype not in (np.float32, np.uint8):
            raise ValueError(f'{name}: {key!r}: expected float32 or uint8, found {part.dtype}')


def like(name: str, flat: dict[str, Any], others: dict[str, Any], rows: int) -> None:
    """Checks that checked observations have the names, the shapes and the dtypes of `others`."""
    if list(flat) != (wanted := [f'last_{key}' for key in others]):
        raise ValueError(f"{name}: 'last_obs': expected {wanted}, found {list(flat)}")
    for (key, part), other in zip(flat.items(), others.values(), strict=True):
        typed(f'{name}: {key!r}', part, (rows, *other.shape[1:]), other.dtype)


def ends(name: str, value: Any, rows: int) -> None:
    """Checks that the ends of episodes are int64 [E] and increase up to `rows`."""
    typed(name, value, (None,), np.int64)
    lengths = np.diff(value, prepend=0)
    if (lengths <= 0).any():
        at = int(np.argmax(lengths <= 0))
        before = int(value[at - 1]) if at else 0
        message = f'expected increasing ends, found {int(value[at])} after {before} (episode {at})'
        raise ValueError(f'{name}: {message}')
    if value[-1] != rows:
        message = f"expected the last to be {rows}, the rows of 'action', found {int(value[-1])}"
        raise ValueError(f'{name}: {message}')


def termination(name: str, value: Any, episode_ends: np.ndarray) -> None:
    """Checks that terminations are uint8 [n], 0 or 1, and 1 only on last rows of episodes."""
    typed(name, value, (int(episode_ends[-1]),), np.uint8)
    last = np.zeros(len(value), np.uint8)
    last[episode_ends - 1] = 1
    if (wrong := value > last).any():
        row = int(wrong.argmax())
        message = f'expected 0, or 1 on the last row of an episode, found {int(value[row])}'
        raise ValueError(f'{name}: {message} in row {row}')
