"""The config group `imitate`: a task rewarded by how much of one demonstration was done."""

import zlib

import numpy as np
from ml_collections import config_dict

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import demo_reward as coverage
from jaxpolicy.types import Env


def apply(config: config_dict.ConfigDict, env: Env) -> Env:
    """The env with the reward of the demonstration that the config names, if it names one.

    Raises:
      ValueError: no such file or episode, or numbers that do not fit.
    """
    if not is_on(config):
        return env
    group = config.imitate
    shown, frames = demonstration(config)
    scale = np.asarray(group.scale, np.float32) if group.scale else deviation(shown)
    return coverage.imitate(env, frames, tuple(group.columns), scale, group.temperature)


def is_on(config: config_dict.ConfigDict) -> bool:
    """Whether the config names a demonstration; older ones have no such group."""
    return bool('imitate' in config and config.imitate.path)


def demonstration(config: config_dict.ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Its observations [n, D], and every `stride`-th of them, counted from the last one [M, D].

    Its actions, rewards and terminations are not looked at.

    Raises:
      ValueError: no such file, episode or column, or observations that are not flat.
    """
    group = config.imitate
    episodes = episodes_lib.load(group.path)
    if not isinstance(episodes.obs, np.ndarray) or episodes.obs.ndim != 2:
        raise ValueError(f'imitate.path: expected flat observations in {group.path}')
    ends = episodes.episode_ends
    if not 0 <= group.episode < len(ends):
        raise ValueError(f'imitate.episode: expected 0 to {len(ends) - 1}, found {group.episode}')
    begin = 0 if group.episode == 0 else ends[group.episode - 1]
    shown = episodes.obs[begin : ends[group.episode]]
    if episodes.last_obs is not None:
        shown = np.concatenate([shown, episodes.last_obs[group.episode][None]])
    for name, least in (('stride', 1), ('length', 0)):
        if group[name] < least:
            raise ValueError(f'imitate.{name}: expected at least {least}, found {group[name]}')
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
    """What tells one demonstration from another."""
    shown, frames = demonstration(config)
    return f'a demonstration of {len(frames)} frames, crc {zlib.crc32(shown.tobytes())}'
