"""Aggregates of the scores of several tasks and seeds, and their intervals, in numpy on the host.

The formulas are those of Agarwal et al., "Deep reinforcement learning at the edge of the
statistical precipice" (2021). Scores are a list with one array [..., seeds] for each task; tasks
may have different numbers of seeds, and leading axes are those of resamples. `seed` makes every
interval the same again.
"""

from collections.abc import Callable, Sequence

import numpy as np

Scores = Sequence[np.ndarray]
Estimate = tuple[np.ndarray, np.ndarray, np.ndarray]  # value, low, high
NUM_RESAMPLES = 2000
_CHUNK = 2_000_000  # numbers that are resampled at once, to bound the memory


def mean(scores: Scores) -> np.ndarray:
    """The mean over tasks of the mean over seeds: [...]."""
    return np.mean([x.mean(-1) for x in scores], axis=0)


def median(scores: Scores) -> np.ndarray:
    """The median over tasks of the mean over seeds; of a single task, the median over seeds."""
    if len(scores) == 1:
        return np.median(scores[0], axis=-1)
    return np.median([x.mean(-1) for x in scores], axis=0)


def iqm(scores: Scores) -> np.ndarray:
    """The interquartile mean: of all runs of all tasks, the mean of the middle half.

    A quarter of the N runs, rounded down, is cut at each end.
    """
    x = np.concatenate(scores, axis=-1)
    cut = x.shape[-1] // 4
    return np.sort(x, axis=-1)[..., cut : x.shape[-1] - cut].mean(-1)


def optimality_gap(scores: Scores, best: float = 1.0) -> np.ndarray:
    """By how much runs miss the best score on average; beyond the best, a run misses nothing."""
    return best - mean([np.minimum(x, best) for x in scores])


def interval(
    statistic: Callable[[Scores], np.ndarray],
    scores: Scores,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """A statistic and its stratified percentile bootstrap interval.

    Seeds are drawn again, with replacement, within each task, so that every resample has as many
    runs of each task as there are.

    Args:
      statistic: maps [..., seeds] of each task to [...].
      scores: [seeds] of each task.
      level: of confidence, in (0, 1).

    Returns:
      value, low and high.

    Raises:
      ValueError: there is no task, a task without a run, or a score that is not finite.
    """
    scores = _checked(scores)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // sum(x.size for x in scores))
    drawn = []
    for start in range(0, num_resamples, rows):
        count = min(rows, num_resamples - start)
        drawn.append(statistic([x[rng.integers(x.size, size=(count, x.size))] for x in scores]))
    return (np.asarray(statistic(scores)), *_bounds(np.concatenate(drawn), level))


def interval_of_means(
    columns: Scores, seed: int = 0, num_resamples: int = NUM_RESAMPLES, level: float = 0.95
) -> Estimate:
    """As `interval(mean, ...)`, of K quantities at once.

    Args:
      columns: [seeds, K] of each task.

    Returns:
      value, low and high, each [K].
    """
    columns = _checked(columns)
    rng = np.random.default_rng(seed)
    drawn = np.mean([_weights(rng, len(x), num_resamples) @ x for x in columns], axis=0)
    return (np.mean([x.mean(0) for x in columns], axis=0), *_bounds(drawn, level))


def performance_profile(scores: Scores, thresholds: np.ndarray, seed: int = 0) -> Estimate:
    """The fraction of runs above each threshold [K], averaged over tasks: value, low, high [K]."""
    return interval_of_means([(x[:, None] > thresholds).astype(float) for x in scores], seed)


def probability_of_improvement(
    x: Scores,
    y: Scores,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """The probability that a run of `x` scores above a run of `y` on a task; ties count half.

    It is Mann and Whitney's U over the number of pairs, averaged over tasks.

    Args:
      x, y: [seeds] of each task, of the same tasks in the same order.

    Raises:
      ValueError: as `interval`, or the numbers of tasks differ.
    """
    x, y = _checked(x), _checked(y)
    if len(x) != len(y):
        raise ValueError(f'y: expected scores of {len(x)} tasks, found {len(y)}')
    rng = np.random.default_rng(seed)
    value, drawn = 0.0, np.zeros(num_resamples)
    for a, b in zip(x, y, strict=True):
        above = (a[:, None] > b) + 0.5 * (a[:, None] == b)
        wins = _weights(rng, a.size, num_resamples) @ above
        value += above.mean() / len(x)
        drawn += (wins * _weights(rng, b.size, num_resamples)).sum(-1) / len(x)
    return (np.asarray(value), *_bounds(drawn, level))


def outliers(x: np.ndarray, limit: float = 3.5) -> np.ndarray:
    """Which of the values [N] are far from the others: bool [N].

    The modified z-score of Iglewicz and Hoaglin (1993): the distance to the median over 1.4826
    times the median distance; where more than half of the values are equal, over 1.2533 times the
    mean distance.
    """
    distance = np.abs(x - np.median(x))
    scale = 1.4826 * np.median(distance) or 1.2533 * distance.mean()
    return distance > limit * scale if scale else np.zeros(len(x), bool)


def _checked(scores: Scores) -> list[np.ndarray]:
    scores = [np.asarray(x, np.float64) for x in scores]
    if not scores or not all(len(x) and np.isfinite(x).all() for x in scores):
        raise ValueError(f'scores: expected finite values of each task, found {scores!r:.200}')
    return scores


def _weights(rng: np.random.Generator, n: int, num_resamples: int) -> np.ndarray:
    """[num_resamples, n]: how often each of n runs is drawn, over n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=num_resamples) / n


def _bounds(drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
