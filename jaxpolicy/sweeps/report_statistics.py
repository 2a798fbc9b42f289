"""The numbers of a report: each setting's aggregates, its comparison with the baseline, curves."""

import bisect
import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpolicy.ops import bootstrap, intervals
from jaxpolicy.sweeps.result import Result
from jaxpolicy.sweeps.scores import Collection, Sample, setting_of

MAX_POINTS = 25  # of a curve or a profile
_CURVE_RESAMPLES = 400
Bounds = tuple[float, float, float]  # value, low, high


def baseline_of(collection: Collection, name: str | None) -> str | None:
    """The setting that others are compared with; without a name, the one that changes nothing.

    Where every setting changes something, it is the first. None where no setting has a score.

    Raises:
      ValueError: no setting that has a score is called so.
    """
    settings = collection.settings()
    if name is None:
        plain = [s.setting for s in collection.samples if not _changes(s.result)]
        return next(iter(plain + settings), None)
    if name not in settings:
        near = difflib.get_close_matches(name, settings, n=1, cutoff=0.0)
        hint = f'did you mean {near[0]!r}?' if near else 'no run has finished'
        raise ValueError(f'--baseline: expected a setting with a score, found {name!r}; {hint}')
    return name


def rows(
    collection: Collection, results: Sequence[Result], baseline: str | None
) -> list[dict[str, Any]]:
    """What the report says of each setting; the best interquartile mean first.

    Estimates are (value, low, high), and None where they cannot be made.
    """
    table = collection.table()
    found = []
    for setting in collection.settings():
        by_task = table[setting]
        scores = [np.array([*seeds.values()]) for seeds in by_task.values()]
        row: dict[str, Any] = {
            'setting': setting,
            'changes': _changes(next(s.result for s in collection.samples if s.setting == setting)),
            'num_tasks': len(scores),
            'num_scores': sum(x.size for x in scores),
            'fewest_seeds': min(x.size for x in scores),
            'iqm': _floats(bootstrap.interval(bootstrap.iqm, scores)),
            'mean': _floats(bootstrap.interval(bootstrap.mean, scores)),
            'median': _floats(bootstrap.interval(bootstrap.median, scores)),
            'optimality_gap': _gap(scores, collection.best),
        }
        if baseline is not None:
            row |= _against(by_task, table[baseline], setting == baseline)
        found.append(row | _costs([r for r in results if setting_of(r) == setting]))
    return sorted(found, key=lambda row: -row['iqm'][0])


def difference_by_seed(
    ours: dict[str, dict[int, float]], theirs: dict[str, dict[int, float]]
) -> tuple[Bounds | None, int]:
    """The mean difference of runs with the same seed, Student's 95% interval, and how many pairs.

    Of several tasks, a seed's difference is its mean over the tasks that both have; only seeds that
    all of these tasks have are paired.
    """
    tasks = [task for task in ours if task in theirs]
    shared = [set(ours[task]) & set(theirs[task]) for task in tasks]
    seeds = sorted(set.intersection(*shared)) if shared else []
    if not seeds:
        return None, 0
    differences = [np.mean([ours[t][seed] - theirs[t][seed] for t in tasks]) for seed in seeds]
    if len(seeds) == 1:
        return None, 1
    return intervals.confidence_interval(np.array(differences), 'real'), len(seeds)


def curve(samples: Sequence[Sample]) -> list[tuple[float, float, float, float]]:
    """(env steps or updates, interquartile mean, low, high), from where all runs have begun to
    where the first of them ends; between two evaluations, the earlier counts.
    """
    samples = [sample for sample in samples if sample.curve]
    if not samples:
        return []
    xs = [[x for x, _ in sample.curve] for sample in samples]
    first, last = max(x[0] for x in xs), min(x[-1] for x in xs)
    grid = thinned(sorted({x for one in xs for x in one if first <= x <= last}), MAX_POINTS)
    values: dict[str, list[list[float]]] = {}
    for x, sample in zip(xs, samples, strict=True):
        at = [sample.curve[bisect.bisect_right(x, place) - 1][1] for place in grid]
        values.setdefault(sample.task, []).append(at)
    tasks = [np.array(value) for value in values.values()]
    found = []
    for index, place in enumerate(grid):
        column = [task[:, index] for task in tasks]
        estimate = bootstrap.interval(bootstrap.iqm, column, num_resamples=_CURVE_RESAMPLES)
        found.append((place, *_floats(estimate)))
    return found


def profile(
    collection: Collection, setting: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Thresholds, the fraction of the setting's runs above each, and its interval."""
    everyone = [sample.score for sample in collection.samples]
    thresholds = np.linspace(min(everyone), max(everyone), 2 * MAX_POINTS)
    scores = [np.array([*seeds.values()]) for seeds in collection.table()[setting].values()]
    estimate = bootstrap.performance_profile(scores, thresholds)
    return tuple(part.tolist() for part in (thresholds, *estimate))  # pyright: ignore


def thinned(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def device_hours(result: Result) -> float:
    """The hours of a run, compilation and evaluations included, times its devices."""
    count, _, kind = result.device.partition(' x ')
    devices = int(count) if kind and count.isdigit() else 1
    return devices * (result.train_s + result.compile_s + result.eval_s) / 3600


def _changes(result: Result) -> dict[str, Any]:
    return {key: value for key, value in result.changes.items() if key != 'env.name'}


def _gap(scores: Sequence[np.ndarray], best: float | None) -> Bounds | None:
    if best is None:
        return None
    return _floats(bootstrap.interval(lambda x: bootstrap.optimality_gap(x, best), scores))


def _against(
    ours: dict[str, dict[int, float]], theirs: dict[str, dict[int, float]], is_baseline: bool
) -> dict[str, Any]:
    tasks = [task for task in ours if task in theirs]
    if is_baseline or not tasks:
        return {'improvement': None, 'difference': None, 'num_pairs': 0, 'shared_tasks': len(tasks)}
    x, y = ([np.array([*side[task].values()]) for task in tasks] for side in (ours, theirs))
    difference, num_pairs = difference_by_seed(ours, theirs)
    return {
        'improvement': _floats(bootstrap.probability_of_improvement(x, y)),
        'difference': difference,
        'num_pairs': num_pairs,
        'shared_tasks': len(tasks),
    }


def _costs(results: Sequence[Result]) -> dict[str, Any]:
    """Means over the finished runs of a setting; hours of all of them."""
    finished = [result for result in results if result.status == 'finished']
    memory = [result.memory_bytes for result in finished if result.memory_bytes is not None]
    return {
        'num_runs': len(finished),
        'train_s': float(np.mean([result.train_s for result in finished])),
        'compile_s': float(np.mean([result.compile_s for result in finished])),
        'eval_s': float(np.mean([result.eval_s for result in finished])),
        'memory_bytes': max(memory, default=None),
        'run_device_hours': float(np.mean([device_hours(result) for result in finished])),
        'device_hours': sum(device_hours(result) for result in results),
    }


def _floats(estimate: bootstrap.Estimate) -> Bounds:
    value, low, high = (float(part) for part in estimate)
    return value, low, high
