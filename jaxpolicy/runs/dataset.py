"""Loads the demonstrations of a config, and says where they do not fit its task."""

import ast
import json
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import fingerprint as fingerprints
from jaxpolicy.runs import environment

Info = Mapping[str, str | float]
Parts = Sequence[tuple[str, episodes_lib.Episodes]]  # path and episodes of each file

_ENGINES = ('backend', 'impl')  # fields that say who computes the same physics


def load_episodes(config: config_dict.ConfigDict, rewarded: bool = False) -> episodes_lib.Episodes:
    """Loads the files of config.data, one after the other, or the subset that it asks for.

    Args:
      rewarded: whether the rewards of the episodes are learnt from.

    Raises:
      ValueError: as in `read`; or rewards are learnt from, and they are of another env.
    """
    data = config.data
    parts = read(data.path, 'config.data.path', data.get('format', 'episodes'), config.env)
    judge(about(config), parts, rewarded, data.get('other_rewards', False))
    return episodes_lib.subset(
        join(parts), data.get('num_episodes', 0) or None, data.get('subset_seed', 0)
    )


def read(
    text: str, key: str, first: str = 'episodes', env: Mapping[str, Any] | None = None
) -> list[tuple[str, episodes_lib.Episodes]]:
    """Reads files of demonstrations; returns the path and the episodes of each.

    Args:
      text: the paths, with commas between them; '~' is the user's folder.
      key: of the config, or the flag, that the text is of.
      first: the format of the first file; the others are in ours.
      env: the config's group `env`, which has the fields that a format asks for.

    Raises:
      ValueError: there is no such format or file, a file is unsound, the format asks for fields
        that the env does not have, or the files differ in shapes.
    """
    paths = [os.path.expanduser(part.strip()) for part in text.split(',')]
    if not all(paths):
        raise ValueError(f'{key}: expected a file of demonstrations, found {text!r}')
    found = []
    for index, path in enumerate(paths):
        name = 'episodes' if index else first
        module = registry.resolve('formats', name, 'config.data.format')
        group = env or {'name': ''}
        if missing := [field for field in module.FROM_ENV if field not in group]:
            raise ValueError(
                f'config.data.format: expected one that fits the env {group["name"]!r}, found '
                f'{name!r}, which needs its fields {missing}'
            )
        options = {field: group[field] for field in module.FROM_ENV}
        try:
            episodes = episodes_lib.validate(module.load(path, **options), path)
        except (ValueError, OSError) as error:  # of somebody's format, which may not name the file
            reason = str(error) if path in str(error) else f'{path}: {error}'
            raise ValueError(f'{key}: {reason}') from error
        found.append((path, episodes))
    return found


def join(parts: Parts) -> episodes_lib.Episodes:
    """The episodes of all files, one file after the other; see `data.episodes.concatenate`."""
    return episodes_lib.concatenate([episodes for _, episodes in parts])


def about(config: config_dict.ConfigDict) -> dict[str, str | float]:
    """What a file of episodes says in its `info` of the environment that they are of.

    Returns:
      'env', its name; 'env_fields', JSON of its Config; 'rewards', who gives them; 'wrap', JSON of
      its wrappers; 'jaxpolicy', the version. It is empty for a run without a simulator.
    """
    if not config.env.name:
        return {}
    fields = {name: value for name, value in config.env.to_dict().items() if name != 'name'}
    own = environment.has_rewards_of_its_own(config)
    return {
        'env': config.env.name,
        'env_fields': json.dumps(fields, sort_keys=True, default=str),
        'rewards': 'of shaping or a demonstration' if own else 'of the task',
        'wrap': json.dumps(config.wrap, default=str),
        'jaxpolicy': sys.modules['jaxpolicy'].__version__,
    }


def judge(ours: Info, parts: Parts, rewarded: bool = False, take: bool = False) -> None:
    """Prints a warning for each way in which a file is of another environment than ours.

    Args:
      ours: what `about` says of our environment.
      rewarded: whether the rewards of the episodes are learnt from, which then have to be ours.
      take: whether other rewards are taken nevertheless.

    Raises:
      ValueError: rewards are learnt from that are of another task, or of fields of it, wrappers or
        a demonstration that make other rewards.
    """
    said = ours if rewarded else {key: value for key, value in ours.items() if key != 'rewards'}
    for path, episodes in parts:
        for text, is_of_reward in doubts(said, episodes.info):
            if rewarded and is_of_reward and not take:
                raise ValueError(
                    f'config.data.path: expected the rewards of this run, found {path}: {text}; '
                    'config.data.other_rewards=True takes them nevertheless'
                )
            print(f'warning: {path}: {text}', file=sys.stderr)


def doubts(ours: Info, theirs: Info) -> list[tuple[str, bool]]:
    """Texts that say how episodes are of another environment, each with whether rewards differ.

    What one side does not say is not compared.

    Args:
      ours: what `about` says of our environment.
      theirs: the info of the episodes: what `about` says, or of older versions 'env', and
        'override' with texts such as 'env.reward=sparse'.
    """
    if 'env' not in ours or 'env' not in theirs:
        return []
    if _module(ours['env']) != _module(theirs['env']):
        return [(f'its episodes are of {theirs["env"]!r}, this run is of {ours["env"]!r}', True)]
    found = []
    here, there = _fields(ours), _fields(theirs)
    for field in sorted(here.keys() & there.keys() - {*_ENGINES}):
        if _value(here[field]) != _value(there[field]):
            text = f'env.{field}={there[field]}, this run has env.{field}={here[field]}'
            found.append((f'its episodes have {text}', 'reward' in text))
    for key in ('rewards', 'wrap'):
        if key in ours and key in theirs and ours[key] != theirs[key]:
            text = f'{key} {theirs[key]}, this run has {key} {ours[key]}'
            found.append((f'its episodes have {text}', True))
    if theirs.get('jaxpolicy', version := ours.get('jaxpolicy')) != version:
        text = f'its episodes were made by jaxpolicy {theirs["jaxpolicy"]}, this is {version}'
        found.append((text, False))
    return found


def _module(name: str | float) -> str:
    """The task's name, or the module's where it is one of our names."""
    prefix, slash, task = str(name).partition('/')
    return registry.TABLES['envs'].get(prefix, prefix) + slash + task


def _fields(info: Info) -> dict[str, Any]:
    """The fields of the env that the info tells of; lists stand for tuples."""
    try:
        return dict(json.loads(str(info['env_fields'])))
    except (KeyError, ValueError, TypeError):  # an older file, or several that differ
        texts = [text.removeprefix('env.') for text in str(info.get('override', '')).split()]
        return dict(text.split('=', 1) for text in texts if '=' in text)


def _value(told: Any) -> Any:
    """A field's value, also where it is told as text, as on a command line."""
    if isinstance(told, str):
        try:
            told = ast.literal_eval({'true': 'True', 'false': 'False'}.get(told, told))
        except (ValueError, SyntaxError):
            return told
    return list(told) if isinstance(told, tuple) else told


def spec_of(episodes: episodes_lib.Episodes) -> types.Spec:
    """Shapes and dtypes of one demonstrated observation and action."""
    return types.Spec(
        obs=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), episodes.obs),
        action=jax.ShapeDtypeStruct(episodes.action.shape[1:], episodes.action.dtype),
    )


def fingerprint(episodes: episodes_lib.Episodes) -> str:
    """Text that identifies a set of demonstrations: its sizes, checksums, and all that is in it.

    Each version added a part at the end, so that what older runs saved is the beginning of it.
    """
    count, rows = len(episodes.episode_ends), len(episodes.action)
    crc = 0
    parts = episodes._replace(info={}, tags=dict(episodes.tags))
    for leaf in jax.tree.leaves(parts):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    action = zlib.crc32(np.ascontiguousarray(episodes.action).tobytes())
    whole = fingerprints.of(parts._replace(info=dict(episodes.info))._asdict())
    return f'{count} episodes, {rows} steps, crc {action}, all {crc}, whole {whole}'
