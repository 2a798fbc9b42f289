"""Arrays over episodes and seeds as numbers with intervals: rows, summaries, tables."""

import csv
from pathlib import Path

import numpy as np

from jaxpolicy.loops import evaluate


def over_seeds(row: dict[str, np.ndarray]) -> dict[str, float]:
    """Numbers to write: what is [] as it is; what is [S] as mean and 95% interval over seeds.

    The bounds (Student's t) are '<name>_low' and '<name>_high'; the seeds' own numbers
    'seed<i>/<name>', for evaluations only.
    """
    numbers = {}
    for name, value in row.items():
        value = np.asarray(value, np.float64)
        if not value.ndim:
            numbers[name] = float(value)
            continue
        mean, low, high = (
            evaluate.confidence_interval(value, 'real')
            if np.isfinite(value).all()
            else (value.mean(), np.nan, np.nan)
        )
        numbers |= {name: float(mean), f'{name}_low': low, f'{name}_high': high}
        if name.startswith('eval/'):
            numbers |= {f'seed{i}/{name}': float(x) for i, x in enumerate(value)}
    return numbers


def summarize(episodes: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean, bounds of its 95% confidence interval and n, by metric.

    Of one agent [n], over its episodes; of several [S, n], over the agents' means (n = S).
    """
    summary = {}
    for name, values in episodes.items():
        values = values if values.ndim == 1 else values.mean(-1)
        binary = episodes[name].ndim == 1 and bool(np.isin(values, (0.0, 1.0)).all())
        mean, low, high = evaluate.confidence_interval(values, 'binary' if binary else 'real')
        summary[name] = {'mean': mean, 'low': low, 'high': high, 'n': len(values)}
    return summary


def write_csv(path: Path, first_seed: int, episodes: dict[str, np.ndarray]) -> None:
    """A row per episode: the agent's number where there are several, the seed, the metrics."""
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
