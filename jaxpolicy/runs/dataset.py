"""Loads the demonstrations of a config, and says where they do not fit its task."""

import sys
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.data import episodes as episodes_lib


def load_episodes(config: config_dict.ConfigDict) -> episodes_lib.Episodes:
    """Loads all files of demonstrations; of the first one, the subset that the config asks for."""
    data = config.data
    path, *more = data.path.split(',')
    episodes = load_file(config, data.format, path)
    episodes = episodes_lib.subset(episodes, data.num_episodes or None, data.subset_seed)
    if not more:
        return episodes
    return episodes_lib.concatenate([episodes, *(load_file(config, 'episodes', p) for p in more)])


def load_rewarded(config: config_dict.ConfigDict) -> episodes_lib.Episodes:
    """Loads the demonstrations with rewards that an off-policy run replays beside its own steps."""
    paths = config.data.path.split(',')
    return episodes_lib.concatenate([load_file(config, 'episodes', path) for path in paths])


def load_file(config: config_dict.ConfigDict, name: str, path: str) -> episodes_lib.Episodes:
    """Reads a file of demonstrations, and prints a warning where it is of another task.

    Args:
      name: of the format, which is also given the fields of the env's Config that it asks for.
      path: of the file.

    Raises:
      ValueError: there is no such format or file, the file is unsound, or the format asks for
        fields that the env does not have.
    """
    module = registry.resolve('formats', name, 'config.data.format')
    if not path:
        raise ValueError("config.data.path: expected a file of demonstrations, found ''")
    if missing := [field for field in module.FROM_ENV if field not in config.env]:
        raise ValueError(
            f'config.data.format: expected one that fits the env {config.env.name!r}, found '
            f'{name!r}, which needs its fields {missing}'
        )
    options = {field: config.env[field] for field in module.FROM_ENV}
    episodes = episodes_lib.validate(module.load(path, **options), path)
    for text in doubts(config, episodes.info):
        print(f'warning: {path}: {text}', file=sys.stderr)
    return episodes


def doubts(config: config_dict.ConfigDict, info: Mapping[str, str | float]) -> list[str]:
    """Texts that say how a file's task, or the fields of its task, differ from the config's.

    Args:
      info: of the episodes, as `experiments.collect` writes it: 'env', and 'override' with texts
        such as 'env.reward=sparse'.
    """
    if not config.env.name or 'env' not in info:
        return []
    if info['env'] != config.env.name:
        return [f'its episodes are of {info["env"]!r}, this run is of {config.env.name!r}']
    found = []
    for text in str(info.get('override', '')).split():
        key, _, value = text.partition('=')
        group, _, field = key.partition('.')
        if group == 'env' and field in config.env and str(config.env[field]) != value:
            found.append(f'its episodes have {text}, this run has {key}={config.env[field]}')
    return found


def spec_of(episodes: episodes_lib.Episodes) -> types.Spec:
    """Shapes and dtypes of one demonstrated observation and action."""
    return types.Spec(
        obs=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), episodes.obs),
        action=jax.ShapeDtypeStruct(episodes.action.shape[1:], jnp.float32),
    )


def fingerprint(episodes: episodes_lib.Episodes) -> str:
    """Text that identifies a set of demonstrations: its sizes, and checksums of its arrays."""
    count, rows = len(episodes.episode_ends), len(episodes.action)
    crc = 0
    parts = episodes._replace(info={}, tags=dict(episodes.tags))
    for leaf in jax.tree.leaves(parts):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return f'{count} episodes, {rows} steps, crc {zlib.crc32(episodes.action.tobytes())}, all {crc}'
