"""Episodes of demonstrations in memory, and our own file format for them.

The format, version 1: one uncompressed `.npz` file (`numpy.load(..., allow_pickle=False)` reads it)
with the arrays

  version       [] int64, 1
  obs           [n, ...] float32 (or uint8 for images); observations with several parts are stored
                as `obs/<name>`, deeper trees as `obs/<name>/<name>`
  action        [n, A] float32 in [-1, 1]; action[i] was taken at obs[i]
  episode_ends  [E] int64, strictly increasing; episode e is the rows [episode_ends[e - 1],
                episode_ends[e]) and the last end is n
  tag/<name>    [n] uint8, optional: what is marked about rows, as where an expert intervened
  info          [] unicode string: a flat JSON object of strings and numbers (source, units)

A file is written under another name and then moved into place, so a reader never sees half of one.
"""

import json
import os
import tempfile
import types
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any

VERSION = 1
TOLERANCE = 1e-5  # how far an action may lie outside [-1, 1]: rounding of float32 conversions

# What a damaged archive raises, depending on which byte is damaged.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Episodes(NamedTuple):
    """Episodes laid end to end; all arrays are numpy's.

    obs: [n, ...] float32 or uint8, or a dict of such arrays.
    action: [n, A] float32 in [-1, 1].
    episode_ends: [E] int64, where each episode ends (exclusive); the last is n.
    info: where the episodes come from and what their units are.
    tags: [n] uint8 each, marks of rows, such as 'intervention'.
    """

    obs: PyTree
    action: np.ndarray
    episode_ends: np.ndarray
    info: dict[str, str | float]
    tags: Mapping[str, np.ndarray] = types.MappingProxyType({})


def check_array(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Checks that an array has the shape (None: any length but 0) and only finite values.

    Raises:
      ValueError: names the array, what was expected and what was found.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'fiu':
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f'{name}: expected an array of numbers, found {found}')
    expected = str(['any' if size is None else size for size in shape]).replace("'", '')
    matches = len(array.shape) == len(shape) and all(
        want is None or want == size for want, size in zip(shape, array.shape, strict=True)
    )
    if not matches:
        raise ValueError(f'{name}: expected shape {expected}, found {list(array.shape)}')
    if array.size == 0:
        raise ValueError(f'{name}: expected data, found an empty array of shape {array.shape}')
    if array.dtype.kind == 'f' and not (finite := np.isfinite(array)).all():
        row = int(np.argwhere(~finite)[0][0])
        count = int((~finite).sum())
        raise ValueError(f'{name}: expected finite values, found {count} that are not, row {row}')


def validate(episodes: Episodes, name: str) -> Episodes:
    """Returns `episodes` unchanged if they are sound.

    Args:
      name: where they come from, such as a path; the message starts with it.

    Raises:
      ValueError: an array is empty, not finite, of the wrong shape or dtype, the lengths disagree,
        an action lies outside [-1, 1], or `episode_ends` do not increase up to the last row. The
        message names the array, what was expected and what was found.
    """
    action, ends = episodes.action, episodes.episode_ends
    check_array(f"{name}: 'action'", action, (None, None))
    if action.dtype != np.float32:
        raise ValueError(f"{name}: 'action': expected float32, found {action.dtype}")
    rows = len(action)
    if (largest := float(np.abs(action).max())) > 1.0 + TOLERANCE:
        row = int(np.abs(action).max(1).argmax())
        message = f'expected values in [-1, 1], found magnitude {largest:g} in row {row}'
        raise ValueError(f"{name}: 'action': {message}")
    flat = flatten_obs(episodes.obs)
    if not flat:
        raise ValueError(f"{name}: 'obs': expected at least one array, found none")
    for key, array in flat.items():
        trailing = array.shape[1:] if isinstance(array, np.ndarray) else ()
        check_array(f'{name}: {key!r}', array, (rows, *trailing))
        if array.dtype not in (np.float32, np.uint8):
            raise ValueError(f'{name}: {key!r}: expected float32 or uint8, found {array.dtype}')
    _check_ends(name, ends, rows)
    for key, tag in flatten_obs(episodes.tags, 'tag').items():
        check_array(f'{name}: {key!r}', tag, (rows,))
        if tag.dtype != np.uint8:
            raise ValueError(f'{name}: {key!r}: expected uint8, found {tag.dtype}')
    for key, value in episodes.info.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            message = f'expected a string or a number, found {value!r:.40}'
            raise ValueError(f"{name}: 'info' {key!r}: {message}")
    return episodes


def _check_ends(name: str, ends: Any, rows: int) -> None:
    check_array(f"{name}: 'episode_ends'", ends, (None,))
    if ends.dtype != np.int64:
        raise ValueError(f"{name}: 'episode_ends': expected int64, found {ends.dtype}")
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any():
        at = int(np.argmax(lengths <= 0))
        before = int(ends[at - 1]) if at else 0
        message = f'expected increasing ends, found {int(ends[at])} after {before} (episode {at})'
        raise ValueError(f"{name}: 'episode_ends': {message}")
    if ends[-1] != rows:
        message = f"expected the last to be {rows}, the rows of 'action', found {int(ends[-1])}"
        raise ValueError(f"{name}: 'episode_ends': {message}")


def save(path: str | os.PathLike[str], episodes: Episodes) -> None:
    """Validates and writes episodes to `path` atomically; the folder must exist.

    Raises:
      ValueError: see `validate`.
    """
    path = os.fspath(path)
    validate(episodes, path)
    arrays = dict(
        flatten_obs(episodes.obs) | flatten_obs(episodes.tags, 'tag'),
        action=episodes.action,
        episode_ends=episodes.episode_ends,
        version=np.asarray(VERSION, np.int64),
        info=np.asarray(json.dumps(episodes.info, sort_keys=True)),
    )
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix='.episodes-', suffix='.tmp')
    try:
        with os.fdopen(descriptor, 'wb') as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str]) -> Episodes:
    """Reads and validates a file that `save` wrote.

    Raises:
      ValueError: the file is missing, damaged or of another version, or see `validate`.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f'{path}: expected a file of episodes, found none')
    try:
        # Every byte of every array is checked against its CRC before anything is parsed.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f'{damaged} is damaged')
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except _DAMAGE as error:
        raise ValueError(f'{path}: expected a whole .npz file, found: {error}') from error
    expected = {'version', 'info', 'action', 'episode_ends'}
    obs_keys = {key for key in arrays if key == 'obs' or key.startswith('obs/')}
    if missing := sorted(expected - set(arrays)) or ([] if obs_keys else ['obs']):
        raise ValueError(f'{path}: {missing[0]!r}: expected an array, found only {sorted(arrays)}')
    tag_keys = {key for key in arrays if key.startswith('tag/')}
    if unknown := sorted(set(arrays) - expected - obs_keys - tag_keys):
        raise ValueError(f'{path}: {unknown[0]!r}: expected no such array')
    if arrays['version'].shape != () or arrays['version'] != VERSION:
        raise ValueError(f"{path}: 'version': expected {VERSION}, found {arrays['version']}")
    obs = _unflatten_obs({key: arrays[key] for key in sorted(obs_keys)}, path)
    info = _parse_info(path, arrays['info'])
    tags = {key.removeprefix('tag/'): arrays[key] for key in sorted(tag_keys)}
    return validate(Episodes(obs, arrays['action'], arrays['episode_ends'], info, tags), path)


def subset(episodes: Episodes, num_episodes: int | None, seed: int) -> Episodes:
    """A random choice of whole episodes, in their original order; None keeps all.

    Diffusion Policy's shipped Push-T recipe trains on 90 of the 206 (`max_train_episodes`).

    Raises:
      ValueError: `num_episodes` is not in 1..E.
    """
    ends = episodes.episode_ends
    if num_episodes is None:
        return episodes
    if not 1 <= num_episodes <= len(ends):
        raise ValueError(f'num_episodes: expected 1 to {len(ends)}, found {num_episodes}')
    chosen = np.sort(np.random.default_rng(seed).choice(len(ends), num_episodes, replace=False))
    starts = np.concatenate([[0], ends[:-1]])
    rows = np.concatenate([np.arange(int(starts[e]), int(ends[e])) for e in chosen])
    return Episodes(
        obs=jax.tree.map(lambda x: x[rows], episodes.obs),
        action=episodes.action[rows],
        episode_ends=np.cumsum(ends[chosen] - starts[chosen]),
        info=episodes.info,
        tags={name: tag[rows] for name, tag in episodes.tags.items()},
    )


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """Several sets of episodes, one after another; rows without a tag that others have carry it.

    Raises:
      ValueError: observations or actions have other shapes.
    """
    first = parts[0]
    for part in parts[1:]:
        found, wanted = (
            jax.tree.map(lambda x: (x.shape[1:], x.dtype.name), (p.obs, p.action))
            for p in (part, first)
        )
        if found != wanted:
            raise ValueError(f'data.path: expected the same shapes in all, found {wanted}, {found}')
    lengths = [len(part.action) for part in parts]
    names = sorted({name for part in parts for name in part.tags})
    before = np.cumsum([0, *lengths[:-1]])
    return Episodes(
        obs=jax.tree.map(lambda *x: np.concatenate(x), *(part.obs for part in parts)),
        action=np.concatenate([part.action for part in parts]),
        episode_ends=np.concatenate(
            [p.episode_ends + b for p, b in zip(parts, before, strict=True)]
        ),
        info=first.info,
        tags={
            name: np.concatenate(
                [
                    p.tags.get(name, np.ones(n, np.uint8))
                    for p, n in zip(parts, lengths, strict=True)
                ]
            )
            for name in names
        },
    )


def flatten_obs(obs: PyTree, prefix: str = 'obs') -> dict[str, Any]:
    """{'obs': array}, or {'obs/<name>': array} for a dict of arrays, sorted by name.

    Raises:
      ValueError: a name is not a string, is empty or contains a slash.
    """
    if not isinstance(obs, Mapping):
        return {prefix: obs}
    flat: dict[str, Any] = {}
    for key in sorted(obs, key=str):
        if not isinstance(key, str) or not key or '/' in key:
            raise ValueError(f'{prefix}: expected names without a slash, found {key!r}')
        flat.update(flatten_obs(obs[key], f'{prefix}/{key}'))
    return flat


def _unflatten_obs(flat: dict[str, np.ndarray], path: str) -> PyTree:
    if 'obs' in flat:
        if len(flat) > 1:
            raise ValueError(f"{path}: 'obs': expected one array or parts, found {sorted(flat)}")
        return flat['obs']
    tree: dict[str, Any] = {}
    for key, array in flat.items():
        *folders, leaf = key.split('/')[1:]
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f'{path}: {key!r}: expected a tree of arrays, found a clash')
        node[leaf] = array
    return tree


def _parse_info(path: str, array: np.ndarray) -> dict[str, str | float]:
    try:
        info = json.loads(str(array))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: 'info': expected a JSON object, found {array!s:.40}") from error
    if not isinstance(info, dict):
        raise ValueError(f"{path}: 'info': expected a JSON object, found {type(info).__name__}")
    return info
