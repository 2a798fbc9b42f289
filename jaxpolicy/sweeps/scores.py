"""From the results of sweeps to one score for each setting, task and seed."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxpolicy.sweeps.result import Result

Reference = Mapping[str, Sequence[float]]  # task -> (score that counts 0, score that counts 1)
_TASK_IN_NAME = re.compile(r'(^|[ ,;])env\.name=[^ ,;]*')


class Sample(NamedTuple):
    """One seed of one run.

    curve: (env steps, or updates where there are none; value) of each evaluation.
    """

    setting: str
    task: str
    seed: int
    score: float
    curve: list[tuple[float, float]]
    result: Result


@dataclasses.dataclass(frozen=True)
class Collection:
    """What can be averaged, and what cannot.

    samples: of runs that finished, in the order of the results.
    not_numbers: (result, seed) of finished runs whose score is no number.
    unfinished: results that are not 'finished'.
    twice: names of settings of which the same task and seed was found again; the first one counts.
    score: the name of the metric; scale: what a score is called on an axis.
    normalisation: in words; '' where scores are as they were measured.
    best: the best score that there can be; None where that is not known.
    axis: what curves are drawn against, with its unit.
    """

    samples: list[Sample]
    not_numbers: list[tuple[Result, int]]
    unfinished: list[Result]
    twice: list[str]
    score: str
    scale: str
    normalisation: str
    best: float | None
    axis: str

    def settings(self) -> list[str]:
        """Names of the settings that have a score."""
        return list(dict.fromkeys(sample.setting for sample in self.samples))

    def tasks(self) -> list[str]:
        """Names of the tasks that have a score."""
        return sorted({sample.task for sample in self.samples})

    def table(self) -> dict[str, dict[str, dict[int, float]]]:
        """setting -> task -> seed -> score."""
        found: dict[str, dict[str, dict[int, float]]] = {}
        for sample in self.samples:
            by_task = found.setdefault(sample.setting, {})
            by_task.setdefault(sample.task, {})[sample.seed] = sample.score
        return found


def setting_of(result: Result) -> str:
    """The name of the setting without the task, so that one setting may have several tasks."""
    return _TASK_IN_NAME.sub('', result.name).strip(' ,;') or 'as the recipe'


def shortener(results: Sequence[Result]) -> Callable[[str], str]:
    """Shortens the keys in a name, 'agent.tau=0.1' to 'tau=0.1', where the last word is unique."""
    keys = {key for result in results for key in result.changes}
    ends = [key.rpartition('.')[2] for key in keys]
    short = {key for key in keys if ends.count(key.rpartition('.')[2]) == 1}
    pattern = re.compile(r'(?<![\w.])((?:\w+\.)+)(\w+)(?==)')

    def shorten(name: str) -> str:
        return pattern.sub(lambda m: m[2] if m[0] in short else m[0], name)

    return shorten


def collect(
    results: Sequence[Result],
    best: bool = False,
    at: int | None = None,
    reference: Reference | None = None,
) -> Collection:
    """The scores of all seeds, on one scale.

    Args:
      best: take each seed's highest evaluation, and not its last.
      at: take evaluations up to this many env steps; None: all of them.
      reference: scores of each task that count 0 and 1. Without it, a single task's scores are as
        they were measured, and those of several tasks are scaled by the lowest and the highest
        score that any run has there.

    Raises:
      ValueError: there are no results, runs of a task have different metrics, or the reference
        lacks a task or has no two numbers for it; a result has not one value for each seed, or `at`
        is given and no run counts env steps.
    """
    if not results:
        raise ValueError('expected the results of a sweep, found none')
    metrics: dict[str, set[str]] = {}
    for result in results:
        metrics.setdefault(result.task, set()).add(result.score)
    for task, names in metrics.items():
        if len(names) > 1:
            raise ValueError(f'{task}: expected runs with one eval.score, found {sorted(names)}')
    unfinished = [result for result in results if result.status != 'finished']
    for result in results:
        _check(result)
    with_steps = any(point.get('env_steps') for result in results for point in result.curve)
    axis = 'env_steps' if with_steps else 'updates'
    if at is not None and not with_steps:
        raise ValueError(f'--at: expected runs that count env steps, found none, but at={at}')
    samples, not_numbers, twice = [], [], []
    seen = set()
    for result in results:
        if result.status != 'finished':
            continue
        for index, seed in enumerate(result.seeds):
            setting = setting_of(result)
            if (setting, result.task, seed) in seen:
                twice.append(setting)
                continue
            seen.add((setting, result.task, seed))
            curve = _curve(result, index, axis, at)
            score = _score(result, index, curve, best, at)
            if score is None or not math.isfinite(score):
                not_numbers.append((result, seed))
            else:
                samples.append(Sample(setting, result.task, seed, score, curve, result))
    score = ' or '.join(sorted({name for names in metrics.values() for name in names}))
    samples, scale, words, top = _normalised(samples, score, reference)
    units = 'env steps' if axis == 'env_steps' else 'updates'
    return Collection(
        samples, not_numbers, unfinished, [*dict.fromkeys(twice)], score, scale, words, top, units
    )


def _check(result: Result) -> None:
    """Raises a ValueError where a result has not one value for each of its seeds."""
    wanted = len(result.seeds)
    columns = [result.scores, result.best, *(point.get('values', ()) for point in result.curve)]
    for column in columns:
        if len(column) != wanted:
            raise ValueError(
                f'{result.name}, {result.identity}: expected a value of each of {wanted} seeds, '
                f'found {len(column)}'
            )


def _curve(result: Result, index: int, axis: str, at: int | None) -> list[tuple[float, float]]:
    points = [(point.get(axis), point['values'][index]) for point in result.curve]
    return [
        (float(x), float(y))
        for x, y in points
        if x is not None and y is not None and math.isfinite(y) and (at is None or x <= at)
    ]


def _score(
    result: Result, index: int, curve: list[tuple[float, float]], best: bool, at: int | None
) -> float | None:
    if at is None:
        return (result.best if best else result.scores)[index]
    values = [value for _, value in curve]
    return (max(values) if best else values[-1]) if values else None


def _normalised(
    samples: list[Sample], score: str, reference: Reference | None
) -> tuple[list[Sample], str, str, float | None]:
    """The samples on one scale, its name, how it was made in words, and the best on it."""
    tasks = sorted({sample.task for sample in samples})
    if reference is None and len(tasks) < 2:
        return samples, score, '', 1.0 if score.startswith('success') else None
    ranges: dict[str, tuple[float, float]] = {}
    for task in tasks:
        if reference is not None:
            ranges[task] = _reference_range(task, reference)
        else:
            scores = [sample.score for sample in samples if sample.task == task]
            ranges[task] = (min(scores), max(scores))
    scaled = []
    for sample in samples:
        low, high = ranges[sample.task]
        width = (high - low) or 1.0  # all runs of a task are equal: they all count 0
        curve = [(x, (y - low) / width) for x, y in sample.curve]
        scaled.append(sample._replace(score=(sample.score - low) / width, curve=curve))
    if reference is not None:
        words = 'Scores are normalised by the reference scores that were given: they count 0 and 1.'
        return scaled, f'normalised {score}', words, 1.0
    words = (
        'Scores are normalised by the results themselves: on each task, the lowest score of any '
        'run counts 0 and the highest counts 1. They depend on which runs are compared, cannot '
        'be set beside those of another report, and have no optimality gap.'
    )
    return scaled, f'normalised {score}', words, None


def _reference_range(task: str, reference: Reference) -> tuple[float, float]:
    found = reference.get(task)
    numbers = isinstance(found, Sequence) and all(isinstance(x, int | float) for x in found)
    if found is None or not numbers or len(found) != 2 or not found[0] < found[1]:
        raise ValueError(
            f'--reference: expected two increasing numbers for the task {task!r}, found {found!r}'
        )
    return float(found[0]), float(found[1])
