"""Sums up arrays over episodes and seeds by means with confidence intervals."""

import csv
import os
from pathlib import Path

import numpy as np

from jaxpolicy.ops import intervals

BROKEN = 'broken'  # of each episode: 1 where it broke, which is no metric


def over_seeds(row: dict[str, np.ndarray]) -> dict[str, float]:
    """Numbers to write: [] stays as it is, [S] becomes its mean and 95% interval over seeds.

    The bounds (Student's t) are '<name>_low' and '<name>_high'. For evaluations the seeds' own
    numbers are kept as well, as 'seed<i>/<name>'.
    """
    numbers = {}
    for name, value in row.items():
        value = np.asarray(value, np.float64)
        if not value.ndim:
            numbers[name] = float(value)
            continue
        mean, low, high = (
            intervals.confidence_interval(value, 'real')
            if np.isfinite(value).all()
            else (value.mean(), np.nan, np.nan)
        )
        numbers |= {name: float(mean), f'{name}_low': low, f'{name}_high': high}
        if name.startswith('eval/'):
            numbers |= {f'seed{i}/{name}': float(x) for i, x in enumerate(value)}
    return numbers


def summarize(episodes: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The mean of each metric, the bounds of its 95% confidence interval, and n, their number.

    They are taken over the episodes of one agent, [n], or over the means of several agents, [S, n],
    so that their number is S. Broken episodes are left out of all metrics, and so is an agent that
    has no others; `num_broken` counts them. Where none are left, n is 0 and the rest is NaN.
    """
    sound = is_sound(episodes)
    summary = {}
    for name, values in episodes.items():
        if name == BROKEN:
            continue
        if values.ndim == 1:
            values = values[sound]
        else:
            values = sound_mean(values, sound)
            values = values[sound.any(-1)]
        binary = episodes[name].ndim == 1 and bool(np.isin(values, (0.0, 1.0)).all())
        mean, low, high = np.nan, np.nan, np.nan
        if len(values):
            kind = 'binary' if binary else 'real'
            mean, low, high = intervals.confidence_interval(values, kind)
        summary[name] = {'mean': mean, 'low': low, 'high': high, 'n': len(values)}
    return summary


def means_of_seeds(episodes: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """The mean of each metric over the sound episodes of each agent; NaN where it has none.

    Args:
      episodes: metrics of one agent, [n], or of several, [S, n].
    """
    sound = is_sound(episodes)
    found = {name: sound_mean(x, sound) for name, x in episodes.items() if name != BROKEN}
    return {name: np.atleast_1d(mean).tolist() for name, mean in found.items()}


def is_sound(episodes: dict[str, np.ndarray]) -> np.ndarray:
    """Which episodes did not break and have finite numbers only, [n] or [S, n] bool."""
    numbers = np.stack([np.asarray(x, np.float64) for x in episodes.values()])
    sound = np.asarray(np.isfinite(numbers).all(0))
    return sound & (np.asarray(episodes[BROKEN]) == 0) if BROKEN in episodes else sound


def num_broken(episodes: dict[str, np.ndarray]) -> int:
    """How many episodes broke, of all agents together."""
    return int((~is_sound(episodes)).sum())


def sound_mean(values: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Means over the last axis, where `sound` holds; NaN where it holds nowhere."""
    count = sound.sum(-1)
    total = np.where(sound, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def all_broke(episodes: dict[str, np.ndarray], mode: str) -> str | None:
    """What to tell the user where no episode is sound; None where one is."""
    sound = is_sound(episodes)
    if sound.any():
        return None
    return f'all {sound.size} {mode} episodes broke (a number was not finite): there are no means'


def write_csv(path: Path, first_seed: int, episodes: dict[str, np.ndarray]) -> None:
    """Writes a row for each episode: its agent's number, if there are several, seed and metrics.

    The file appears whole, or not at all.
    """
    several = episodes['return'].ndim == 2
    tables = [list(episodes.values())]
    if several:
        tables = [[x[i] for x in episodes.values()] for i in range(len(episodes['return']))]
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    with temporary.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow([*(['agent'] if several else []), 'seed', *episodes])
        for agent, columns in enumerate(tables):
            for i, row in enumerate(zip(*columns, strict=True)):
                numbers = (f'{float(value):.9g}' for value in row)
                table.writerow([*([agent] if several else []), first_seed + i, *numbers])
    os.replace(temporary, path)
