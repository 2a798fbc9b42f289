"""Makes the reward that one demonstration gives, as the config's group `imitate` says."""

import zlib

import numpy as np
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import demo_reward
from jaxpolicy.runs import dataset, groups


def apply(config: config_dict.ConfigDict, env: types.Env) -> types.Env:
    """The env with the reward of the demonstration that the config's group `imitate` names.

    Raises:
      ValueError: there is no such file or episode, or the numbers do not fit.
    """
    group = config.imitate
    shown, frames = demonstration(group, dataset.join(read(group)))
    scale = np.asarray(group.scale, np.float32) if group.scale else deviation(shown)
    return demo_reward.imitate(env, frames, tuple(group.columns), scale, group.temperature)


def read(group: config_dict.ConfigDict) -> list[tuple[str, episodes_lib.Episodes]]:
    """Path and episodes of each file that the group `imitate` names."""
    return dataset.read(group.path, 'config.imitate.path')


def demonstration(
    group: config_dict.ConfigDict, episodes: episodes_lib.Episodes
) -> tuple[np.ndarray, np.ndarray]:
    """The demonstration's observations [n, D], and its frames [M, D]: every `stride`-th of them.

    Frames are counted from the last observation back. Actions, rewards and terminations are not
    used.

    Args:
      group: the config's group `imitate`.
      episodes: of all files, numbered through from 0.

    Raises:
      ValueError: there is no such episode or column, or observations are not flat.
    """
    groups.of(group, 'imitate')
    if not isinstance(episodes.obs, np.ndarray) or episodes.obs.ndim != 2:
        raise ValueError(f'imitate.path: expected flat observations in {group.path}')
    ends = episodes.episode_ends
    if not 0 <= group.episode < len(ends):
        raise ValueError(f'imitate.episode: expected 0 to {len(ends) - 1}, found {group.episode}')
    begin = 0 if group.episode == 0 else ends[group.episode - 1]
    shown = episodes.obs[begin : ends[group.episode]]
    if episodes.last_obs is not None:
        shown = np.concatenate([shown, episodes.last_obs[group.episode][None]])
    shown = shown[: group.length or None]
    columns = list(group.columns) or list(range(shown.shape[1]))
    if wrong := [column for column in columns if not 0 <= column < shown.shape[1]]:
        raise ValueError(
            f'imitate.columns: expected columns in [0, {shown.shape[1]}), found {wrong}'
        )
    shown = np.asarray(shown[:, columns], np.float32)
    return shown, shown[:: -group.stride][::-1]


def deviation(shown: np.ndarray) -> np.ndarray:
    """The standard deviation of each column [D] over a demonstration; 1 where it does not vary."""
    std = shown.std(axis=0)
    return np.where(std > 1e-4, std, 1.0).astype(np.float32)


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Text that identifies a demonstration: its number of frames, a checksum, and its files.

    It prints a warning for each file that is of another env than the config's.
    """
    parts = read(config.imitate)
    dataset.judge(dataset.about(config), parts)
    episodes = dataset.join(parts)
    shown, frames = demonstration(config.imitate, episodes)
    crc, files = zlib.crc32(shown.tobytes()), dataset.fingerprint(episodes)
    return f'a demonstration of {len(frames)} frames, crc {crc}, of {files}'
