"""Which hyper-parameter matters: main effects and interactions of the settings of a sweep."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.ops import bootstrap
from jaxpolicy.sweeps.scores import Sample

MAX_LEVELS = 6  # numbers with more values are put into four groups
NOT_CHANGED = "the recipe's"


class Level(NamedTuple):
    """The runs in which a factor has one value; `mean`, `low`, `high`: of their scores."""

    name: str
    num_scores: int
    mean: float
    low: float
    high: float


class Factor(NamedTuple):
    """A key of the config with two values or more; `share`: of the variance that it explains."""

    key: str
    share: float
    levels: list[Level]


class Analysis(NamedTuple):
    """Shares of the variance of the scores around the mean of their task.

    factors: the largest share first.
    seeds: the share between runs of one setting that differ by the seed.
    rest: what is left, for interactions of factors; None where the settings are no complete grid,
      as the shares overlap there.
    """

    factors: list[Factor]
    seeds: float
    rest: float | None


def analyse(samples: Sequence[Sample]) -> Analysis | None:
    """The main effect of each factor; None where no key has two values or all scores are equal."""
    names = _levels(samples)
    if not names:
        return None
    x, total = _centred(samples)
    if total == 0.0:
        return None
    factors = []
    for key, of_samples in names.items():
        levels, explained = [], 0.0
        for name in _ordered(of_samples):
            inside = [s for s, level in zip(samples, of_samples, strict=True) if level == name]
            chosen = x[[level == name for level in of_samples]]
            explained += len(chosen) * float(chosen.mean()) ** 2
            levels.append(Level(name, len(inside), *_mean(inside)))
        factors.append(Factor(key, explained / total, levels))
    groups: dict[tuple[str, str], list[float]] = {}
    for sample, value in zip(samples, x, strict=True):
        groups.setdefault((sample.setting, sample.task), []).append(float(value))
    seeds = sum(len(g) * float(np.var(g)) for g in groups.values()) / total
    rest = max(0.0, 1.0 - seeds - sum(f.share for f in factors)) if _complete(names) else None
    return Analysis(sorted(factors, key=lambda factor: -factor.share), seeds, rest)


def interaction(
    samples: Sequence[Sample], first: str, second: str
) -> dict[str, list[tuple[str, float, float, float]]]:
    """Level of `second` -> (level of `first`, mean, low, high) for the combinations with runs."""
    names = _levels(samples)
    found: dict[str, list[tuple[str, float, float, float]]] = {}
    for b, a in itertools.product(_ordered(names[second]), _ordered(names[first])):
        pairs = zip(samples, names[first], names[second], strict=True)
        inside = [sample for sample, x, y in pairs if (x, y) == (a, b)]
        if inside:
            found.setdefault(b, []).append((a, *_mean(inside)))
    return found


def _levels(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Key -> the name of its level in each sample, for the keys that have two or more."""
    keys = {key for s in samples for key in s.result.changes} - {'env.name'}
    columns: dict[str, list[Any]] = {
        key: [s.result.changes.get(key, NOT_CHANGED) for s in samples] for key in sorted(keys)
    }
    columns['recipe'] = [s.result.recipe for s in samples]
    named = {key: _named(column) for key, column in columns.items()}
    return {key: column for key, column in named.items() if len(set(column)) > 1}


def _named(values: Sequence[Any]) -> list[str]:
    """Each value as text; many different numbers as one of four ranges of as many values each."""
    is_numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    if is_numeric and len(set(values)) > MAX_LEVELS:
        groups = np.array_split(np.unique(np.array(values, float)), 4)
        names = {float(x): f'{g[0]:.3g} to {g[-1]:.3g}' for g in groups for x in g}
        return [names[float(x)] for x in values]
    return [x if isinstance(x, str) else json.dumps(x) for x in values]


def _ordered(names: Sequence[str]) -> list[str]:
    """The levels, numbers by their size, after the recipe's own."""

    def place(name: str) -> tuple[int, float, str]:
        try:
            return 1, float(name.split(' to ')[0]), name
        except ValueError:
            return (0 if name == NOT_CHANGED else 2), 0.0, name

    return sorted(set(names), key=place)


def _centred(samples: Sequence[Sample]) -> tuple[np.ndarray, float]:
    """Scores minus the mean of their task, and the sum of their squares."""
    x = np.array([sample.score for sample in samples])
    tasks = np.array([sample.task for sample in samples])
    for task in set(tasks):
        x[tasks == task] -= x[tasks == task].mean()
    return x, float((x**2).sum())


def _mean(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """The mean with its bootstrap interval; seeds are drawn again within each setting and task."""
    groups: dict[tuple[str, str], list[float]] = {}
    for sample in samples:
        groups.setdefault((sample.setting, sample.task), []).append(sample.score)
    columns = [np.array(group)[:, None] for group in groups.values()]
    value, low, high = (float(part[0]) for part in bootstrap.interval_of_means(columns))
    return value, low, high


def _complete(names: dict[str, list[str]]) -> bool:
    """Whether every combination of levels has the same number of samples."""
    counts: dict[tuple[str, ...], int] = {}
    for combination in zip(*names.values(), strict=True):
        counts[combination] = counts.get(combination, 0) + 1
    wanted = int(np.prod([len(set(column)) for column in names.values()]))
    return len(counts) == wanted and len(set(counts.values())) == 1
