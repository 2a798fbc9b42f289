"""What a reader of a report has to be told before believing it, in words."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxpolicy.ops import bootstrap
from jaxpolicy.sweeps.result import Result
from jaxpolicy.sweeps.scores import Collection, setting_of

MIN_SEEDS = 5
_SHOWN = 3  # names in a sentence
_LEVEL = 0.05  # how often an interval of 95% misses
_LEFT_OUT = (
    ' Which hyper-parameters matter is then said of the runs that are left, and their scores '
    'chose them.'
)
_SMALL = 0.15  # a seed this near to the median, as a part of the task's range, is no outlier


def find(
    collection: Collection,
    results: Sequence[Result],
    rows: Sequence[dict[str, Any]],
    baseline: str | None,
    best: bool = False,
    at: int | None = None,
) -> list[str]:
    """All warnings, each a sentence or two; `best` and `at` are those of `scores.collect`."""
    finished = [result for result in results if result.status == 'finished']
    found = [
        *_unfinished(collection),
        _few_seeds(rows),
        _missing_tasks(rows, collection),
        _unequal(
            finished, 'budget', lambda r: min(r.budget, at or r.budget), 'env steps or updates'
        ),
        _unequal(finished, 'number of episodes of an evaluation', lambda r: r.num_episodes, ''),
        _best(best),
        _overlaps(rows, baseline),
        _comparisons(rows),
        _outliers(collection),
    ]
    return [warning for warning in found if warning]


def _unfinished(collection: Collection) -> list[str]:
    found = []
    words = {'failed': 'failed', 'stopped': 'were stopped early', 'running': 'have not ended'}
    for status, what in words.items():
        names = [setting_of(r) for r in collection.unfinished if r.status == status]
        if names:
            found.append(
                f'{_count(names, "run")} {what} and are in no average: {_list(names)}. Where they '
                'would have scored low, the averages of their settings are too high.'
                + (_LEFT_OUT if status == 'stopped' else '')
            )
    if collection.not_numbers:
        names = [f'{setting_of(r)}, seed {seed}' for r, seed in collection.not_numbers]
        found.append(
            f'The score of {_count(names, "seed")} is no number and is in no average: '
            f'{_list(names)}.'
        )
    if collection.twice:
        found.append(
            f'The same task and seed was found more than once for {_list(collection.twice)}; the '
            'first result counts.'
        )
    return found


def _few_seeds(rows: Sequence[dict[str, Any]]) -> str:
    few = [f'{r["setting"]} ({r["fewest_seeds"]})' for r in rows if r['fewest_seeds'] < MIN_SEEDS]
    if not few:
        return ''
    return (
        f'Fewer than {MIN_SEEDS} seeds of {_count(few, "setting")}: {_list(few)}. Bootstrap '
        'intervals of so few runs are too narrow; train more seeds before you conclude.'
    )


def _missing_tasks(rows: Sequence[dict[str, Any]], collection: Collection) -> str:
    count = len(collection.tasks())
    fewer = [f'{r["setting"]} ({r["num_tasks"]})' for r in rows if r['num_tasks'] < count]
    if not fewer:
        return ''
    return (
        f'Settings lack some of the {count} tasks: {_list(fewer)}. Their averages are over the '
        'tasks that they have, and are not comparable with those of others; the comparison with '
        'the baseline uses the tasks that both have.'
    )


def _unequal(results: Sequence[Result], what: str, of: Callable[[Result], int], unit: str) -> str:
    """Unequal numbers among the runs of one task."""
    by_task: dict[str, dict[int, list[str]]] = {}
    for result in results:
        if number := of(result):  # 0 where that is not known
            names = by_task.setdefault(result.task, {}).setdefault(number, [])
            names.append(setting_of(result))
    unequal = {task: numbers for task, numbers in by_task.items() if len(numbers) > 1}
    if not unequal:
        return ''
    task, numbers = next(iter(unequal.items()))
    texts = [
        f'{number:,} ({_list([*dict.fromkeys(names)], 2)})'
        for number, names in sorted(numbers.items())
    ]
    where = f' on {task}' if task else ''
    others = f', and on {len(unequal) - 1} other tasks' if len(unequal) > 1 else ''
    unit = f', in {unit}' if unit else ''
    return (
        f'Runs differ in the {what}{where}{others}{unit}: {"; ".join(texts)}. Settings that had '
        'more are favoured or measured more exactly.'
    )


def _best(best: bool) -> str:
    if not best:
        return ''
    return (
        "Scores are each seed's best checkpoint, chosen on the same episodes that it is scored on: "
        'they are too high, the more so the more evaluations a run has. Evaluate the chosen '
        'checkpoints on fresh episodes, or report the last evaluation.'
    )


def _overlaps(rows: Sequence[dict[str, Any]], baseline: str | None) -> str:
    base = next((row for row in rows if row['setting'] == baseline), None)
    if base is None or len(rows) < 2:
        return ''
    _, low, high = base['iqm']
    names = [
        row['setting']
        for row in rows
        if row is not base and row['iqm'][1] <= high and row['iqm'][2] >= low
    ]
    if not names:
        return ''
    return (
        f"The interval of {_count(names, 'setting')} overlaps the baseline's ({baseline}): "
        f'{_list(names)}. Which of them is better is not settled by these intervals; look at the '
        'probability of improvement and the differences by seed, or train more seeds.'
    )


def _comparisons(rows: Sequence[dict[str, Any]]) -> str:
    count = sum(row.get('improvement') is not None for row in rows)
    chance = 1 - (1 - _LEVEL) ** count
    if chance <= 0.5:
        return ''
    return (
        f'{count} settings are compared with the baseline. If none of them differed from it, '
        f'{count * _LEVEL:.1f} of the 95% intervals would be expected to exclude no difference by '
        f'chance alone (at least one with probability {chance:.2f}). Repeat the winners with '
        'fresh seeds.'
    )


def _outliers(collection: Collection) -> str:
    ranges = {}
    for sample in collection.samples:
        low, high = ranges.get(sample.task, (sample.score, sample.score))
        ranges[sample.task] = (min(low, sample.score), max(high, sample.score))
    found = []
    for setting, by_task in collection.table().items():
        for task, scores in by_task.items():
            x, (low, high) = np.array([*scores.values()]), ranges[task]
            far = np.abs(x - np.median(x)) > _SMALL * (high - low)
            is_outlier = bootstrap.outliers(x) & far & (x.size >= MIN_SEEDS)
            where = f' on {task}' if task and len(ranges) > 1 else ''
            found += [
                f'{setting}{where}, seed {seed}: {value:.3g} (median {np.median(x):.3g})'
                for (seed, value), out in zip(scores.items(), is_outlier, strict=True)
                if out
            ]
    if not found:
        return ''
    return (
        f'{_count(found, "seed")} scored far from the others of the same setting and stay in all '
        f'averages: {_list(found)}. Look at these runs; the interquartile mean leaves out the '
        'most extreme quarters, the mean does not.'
    )


def _count(names: Sequence[str], word: str) -> str:
    return f'{len(names)} {word}{"s" if len(names) != 1 else ""}'


def _list(names: Iterable[str], most: int = _SHOWN) -> str:
    names = [*dict.fromkeys(names)]
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return '; '.join(names[:most]) + rest
