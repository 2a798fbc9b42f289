"""Episodes of demonstrations in memory, and our own file format for them.

The format, version 1 or 2: one uncompressed `.npz` file with the arrays below, which
`numpy.load(..., allow_pickle=False)` reads.

  version       [] int64, 1; or 2, where an action is one of M choices
  obs           [n, ...] float32 (or uint8 for images); observations with several parts are stored
                as `obs/<name>`, deeper trees as `obs/<name>/<name>`
  action        [n, A] float32 in [-1, 1]; or, in version 2, [n] int32 choices from 0 to M - 1;
                action[i] was taken at obs[i]
  num_choices   [] int64, M, in version 2 alone
  episode_ends  [E] int64, strictly increasing; episode e is the rows [episode_ends[e - 1],
                episode_ends[e]) and the last end is n
  tag/<name>    [n] uint8, optional: a mark on each row, such as where an expert intervened
  reward        [n] float32, optional: the reward for action[i]
  termination   [n] uint8, optional: 1 on the last row of an episode that the task itself ended, so
                that no value lies beyond; 0 elsewhere. The other episodes ran out of time
  last_obs      [E, ...], optional, stored like `obs`: the observation after each episode's last
                action
  info          [] unicode string: a flat JSON object of strings and numbers (source, units)

In memory choices are one-hot, int8 [n, M], as in `types.Spec`. Files without choices have version
1, so that older versions of this library read them as well.

A file is written under another name and then moved into place, so a reader never sees half of one.
"""

import json
import math
import os
import tempfile
import types
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpolicy import ranges, registry
from jaxpolicy.data import checks, choices

PyTree = Any

VERSIONS = (1, 2)  # the second is of files whose actions are choices

# What a damaged archive raises, depending on which byte is damaged.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Episodes(NamedTuple):
    """Episodes, one after the other in the same arrays; all arrays are numpy's.

    obs: [n, ...] float32 or uint8, or a dict of such arrays.
    action: [n, A] float32 in [-1, 1], or [n, M] int8, one of M choices, one-hot.
    episode_ends: [E] int64, where each episode ends (exclusive); the last is n.
    info: where the episodes come from and what their units are.
    tags: [n] uint8 each, marks on rows, such as 'intervention'.
    reward: [n] float32, or None where there are no rewards.
    termination: [n] uint8, 1 on the last row of an episode that the task itself ended, or None.
    last_obs: [E, ...] like obs, the observation after each episode's last action, or None.
    """

    obs: PyTree
    action: np.ndarray
    episode_ends: np.ndarray
    info: Mapping[str, str | float] = types.MappingProxyType({})
    tags: Mapping[str, np.ndarray] = types.MappingProxyType({})
    reward: np.ndarray | None = None
    termination: np.ndarray | None = None
    last_obs: PyTree | None = None


def validate(episodes: Episodes, name: str) -> Episodes:
    """Returns `episodes` unchanged if they are sound.

    Args:
      name: where they come from, such as a path; the message starts with it.

    Raises:
      ValueError: an array is empty, not finite or of the wrong shape or dtype, lengths disagree, an
        action lies outside [-1, 1] or is not one-hot, `episode_ends` do not increase up to the last
        row, or an episode terminates before its end. The message names the array, what was expected
        and what was found.
    """
    if isinstance(episodes.action, np.ndarray) and episodes.action.dtype.kind in 'iu':
        choices.check(f"{name}: 'action'", episodes.action)
    else:
        checks.action(f"{name}: 'action'", episodes.action)
    rows, ends = len(episodes.action), episodes.episode_ends
    obs = flatten_obs(episodes.obs)
    checks.obs(name, obs, rows)
    checks.ends(f"{name}: 'episode_ends'", ends, rows)
    for key, tag in flatten_obs(episodes.tags, 'tag').items():
        checks.typed(f'{name}: {key!r}', tag, (rows,), np.uint8)
    if episodes.reward is not None:
        checks.typed(f"{name}: 'reward'", episodes.reward, (rows,), np.float32)
    if episodes.termination is not None:
        checks.termination(f"{name}: 'termination'", episodes.termination, ends)
    if episodes.last_obs is not None:
        checks.like(name, flatten_obs(episodes.last_obs, 'last_obs'), obs, len(ends))
    for key, value in episodes.info.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            message = f'expected a string or a number, found {value!r:.40}'
            raise ValueError(f"{name}: 'info' {key!r}: {message}")
    return episodes


def save(path: str | os.PathLike[str], episodes: Episodes) -> None:
    """Validates and writes episodes to `path` atomically; the folder must exist.

    Raises:
      ValueError: see `validate`.
    """
    path = os.path.expanduser(path)
    validate(episodes, path)
    discrete = episodes.action.dtype == np.int8
    arrays = dict(
        flatten_obs(episodes.obs) | flatten_obs(episodes.tags, 'tag') | _outcomes(episodes),
        **(choices.to_file(episodes.action) if discrete else {'action': episodes.action}),
        episode_ends=episodes.episode_ends,
        version=np.asarray(VERSIONS[discrete], np.int64),
        info=np.asarray(_info_text(episodes.info)),
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
      ValueError: the file is missing, damaged or of another version, or `validate` refuses it.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        where = '' if os.path.isabs(path) else f' from the folder {os.getcwd()}'
        found = 'a folder' if os.path.isdir(path) else f'none{where}; {registry.beside(path)}'
        raise ValueError(f'{path}: expected a file of episodes, found {found}')
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
    if has_choices := _version(path, arrays) == VERSIONS[1]:
        expected.add('num_choices')
    obs, tags, last_obs = (_named(arrays, prefix) for prefix in ('obs', 'tag', 'last_obs'))
    tags.pop('tag', None)  # an array 'tag' without a name is unknown and refused below
    if missing := sorted(expected - set(arrays)) or ([] if obs else ['obs']):
        raise ValueError(f'{path}: {missing[0]!r}: expected an array, found only {sorted(arrays)}')
    known = expected | {'reward', 'termination'} | set(obs) | set(tags) | set(last_obs)
    if unknown := sorted(set(arrays) - known):
        raise ValueError(f'{path}: {unknown[0]!r}: expected no such array')
    action = arrays['action']
    if has_choices:
        action = choices.from_file(path, action, arrays['num_choices'])
    episodes = Episodes(
        obs=_unflatten_obs(obs, path),
        action=action,
        episode_ends=arrays['episode_ends'],
        info=_parse_info(path, arrays['info']),
        tags={key.removeprefix('tag/'): tag for key, tag in tags.items()},
        reward=arrays.get('reward'),
        termination=arrays.get('termination'),
        last_obs=_unflatten_obs(last_obs, path) if last_obs else None,
    )
    return validate(episodes, path)


def _version(path: str, arrays: dict[str, np.ndarray]) -> int:
    """The version of a file, 1 where it does not say (which is refused with what else it lacks)."""
    found = arrays.get('version', np.asarray(VERSIONS[0]))
    if found.shape != () or found not in VERSIONS:
        raise ValueError(f"{path}: 'version': expected 1 or 2, found {found}")
    return int(found)


def _outcomes(episodes: Episodes) -> dict[str, np.ndarray]:
    """The arrays of rewards, terminations and last observations that there are, by name."""
    last = {} if episodes.last_obs is None else flatten_obs(episodes.last_obs, 'last_obs')
    found = {'reward': episodes.reward, 'termination': episodes.termination, **last}
    return {name: array for name, array in found.items() if array is not None}


def _named(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The array that is called `prefix`, or those that are called `prefix/...`."""
    keys = [key for key in sorted(arrays) if key == prefix or key.startswith(f'{prefix}/')]
    return {key: arrays[key] for key in keys}


def subset(episodes: Episodes, num_episodes: int | None, seed: int) -> Episodes:
    """A random choice of whole episodes, in their original order; None keeps all.

    Diffusion Policy's shipped Push-T recipe trains on 90 of the 206 (`max_train_episodes`).

    Raises:
      ValueError: `num_episodes` is not in 1..E.
    """
    ends = episodes.episode_ends
    if num_episodes is None:
        return episodes
    ranges.check_seeds('config.data.subset_seed', seed)
    if not 1 <= num_episodes <= len(ends):
        raise ValueError(
            f'config.data.num_episodes: expected 1 to {len(ends)}, found {num_episodes}'
        )
    chosen = np.sort(np.random.default_rng(seed).choice(len(ends), num_episodes, replace=False))
    starts = np.concatenate([[0], ends[:-1]])
    rows = np.concatenate([np.arange(int(starts[e]), int(ends[e])) for e in chosen])

    def take(tree: PyTree, index: np.ndarray) -> PyTree:
        return jax.tree.map(lambda x: x[index], tree)  # take(None) is None

    return Episodes(
        obs=take(episodes.obs, rows),
        action=episodes.action[rows],
        episode_ends=np.cumsum(ends[chosen] - starts[chosen]),
        info=episodes.info,
        tags=take(dict(episodes.tags), rows),
        reward=take(episodes.reward, rows),
        termination=take(episodes.termination, rows),
        last_obs=take(episodes.last_obs, chosen),
    )


def next_obs(episodes: Episodes) -> PyTree:
    """The observation after each action, like `obs`; `last_obs` gives each episode's last one.

    The episodes must have `last_obs`.
    """
    last = np.asarray(episodes.episode_ends) - 1

    def following(obs: np.ndarray, end: np.ndarray) -> np.ndarray:
        after = np.concatenate([obs[1:], obs[:1]])
        after[last] = end
        return after

    return jax.tree.map(following, episodes.obs, episodes.last_obs)


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """Joins several sets of episodes into one, in their order.

    A set that lacks a tag that another set has gets 1 for it on all of its rows. Rewards,
    terminations and last observations that only some of the sets have are left out, so that
    imitation can still learn from all of the sets. What the sets say in `info` is joined with '; '
    where they differ.

    Raises:
      ValueError: observations or actions differ in shape or dtype between the sets.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
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

    def join(trees: Sequence[PyTree]) -> PyTree:
        if any(tree is None for tree in trees):
            return None
        return jax.tree.map(lambda *x: np.concatenate(x), *trees)

    return Episodes(
        obs=join([part.obs for part in parts]),
        action=join([part.action for part in parts]),
        episode_ends=join([p.episode_ends + b for p, b in zip(parts, before, strict=True)]),
        info=_joined_info([part.info for part in parts]),
        tags={
            name: join(
                [
                    p.tags.get(name, np.ones(n, np.uint8))
                    for p, n in zip(parts, lengths, strict=True)
                ]
            )
            for name in names
        },
        reward=join([part.reward for part in parts]),
        termination=join([part.termination for part in parts]),
        last_obs=join([part.last_obs for part in parts]),
    )


def _joined_info(infos: Sequence[Mapping[str, str | float]]) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for key in {key: None for info in infos for key in info}:
        values = list(dict.fromkeys(info[key] for info in infos if key in info))
        found[key] = values[0] if len(values) == 1 else '; '.join(map(str, values))
    return found


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
    prefix = next(iter(flat)).split('/')[0]
    if prefix in flat:
        if len(flat) > 1:
            raise ValueError(
                f'{path}: {prefix!r}: expected one array or parts, found {sorted(flat)}'
            )
        return flat[prefix]
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


def _info_text(info: Mapping[str, str | float]) -> str:
    """JSON, in which a number that is not finite is null."""

    def is_finite(value):
        return not isinstance(value, float) or math.isfinite(value)

    found = {key: value if is_finite(value) else None for key, value in info.items()}
    return json.dumps(found, sort_keys=True, allow_nan=False)


def _parse_info(path: str, array: np.ndarray) -> dict[str, str | float]:
    try:
        info = json.loads(str(array))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: 'info': expected a JSON object, found {array!s:.40}") from error
    if not isinstance(info, dict):
        raise ValueError(f"{path}: 'info': expected a JSON object, found {type(info).__name__}")
    return {key: math.nan if value is None else value for key, value in info.items()}
