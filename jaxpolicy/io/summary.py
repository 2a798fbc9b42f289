"""Sums up arrays over episodes and seeds by means with confidence intervals."""

import csv
from pathlib import Path

import numpy as np

from jaxpolicy.ops import intervals


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
    so that their number is S. Episodes with numbers that are not finite are left out of all
    metrics, and so is an agent that has no others. If there are any, the mean of the added metric
    'broken' is their share.
    """
    sound = is_sound(episodes)
    if not sound.all():
        episodes = {**episodes, 'broken': (~sound).astype(np.float32)}
    summary = {}
    for name, values in episodes.items():
        kept = np.ones_like(sound) if name == 'broken' else sound
        if values.ndim == 1:
            values = values[kept]
        else:
            known = kept.any(-1)  # an agent all of whose episodes broke has no mean
            values = np.where(kept, values, 0.0).sum(-1)[known] / kept.sum(-1)[known]
        binary = episodes[name].ndim == 1 and bool(np.isin(values, (0.0, 1.0)).all())
        mean, low, high = np.nan, np.nan, np.nan
        if len(values):
            kind = 'binary' if binary else 'real'
            mean, low, high = intervals.confidence_interval(values, kind)
        summary[name] = {'mean': mean, 'low': low, 'high': high, 'n': len(values)}
    return summary


def is_sound(episodes: dict[str, np.ndarray]) -> np.ndarray:
    """Which episodes have finite numbers only, [n] or [S, n] bool."""
    numbers = np.stack([np.asarray(x, np.float64) for x in episodes.values()])
    return np.asarray(np.isfinite(numbers).all(0))


def write_csv(path: Path, first_seed: int, episodes: dict[str, np.ndarray]) -> None:
    """Writes a row for each episode: its agent's number, if there are several, seed and metrics."""
    several = episodes['return'].ndim == 2
    tables = [list(episodes.values())]
    if several:
        tables = [[x[i] for x in episodes.values()] for i in range(len(episodes['return']))]
    with path.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow([*(['agent'] if several else []), 'seed', *episodes])
        for agent, columns in enumerate(tables):
            for i, row in enumerate(zip(*columns, strict=True)):
                numbers = (f'{float(value):.9g}' for value in row)
                table.writerow([*([agent] if several else []), first_seed + i, *numbers])
