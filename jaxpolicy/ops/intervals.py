"""Means and their confidence intervals, in numpy on the host."""

import jax
import numpy as np
from scipy import special


def confidence_interval(
    x: np.ndarray | jax.Array, kind: str, level: float = 0.95
) -> tuple[float, float, float]:
    """The mean over N episodes and its confidence interval.

    Args:
      x: [N], one number for each episode.
      kind: 'binary' for zeros and ones (Wilson's score interval, 1927), 'real' for anything else
        (Student's t; infinitely wide for a single episode).
      level: of confidence, in (0, 1).

    Returns:
      (mean, low, high).

    Raises:
      ValueError: no episodes, values that are not finite or, for 'binary', not 0 or 1.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f'x: expected finite values [N], found shape {list(x.shape)}: {x}')
    if not 0.0 < level < 1.0:
        raise ValueError(f'level: expected a number between 0 and 1, found {level}')
    n, mean = x.size, float(x.mean())
    if kind == 'binary':
        if not np.isin(x, (0.0, 1.0)).all():
            raise ValueError(f'x: expected zeros and ones for a binary interval, found {x}')
        z = float(special.ndtri(0.5 + level / 2))
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2))
        return mean, max(0.0, centre - half), min(1.0, centre + half)
    if kind == 'real':
        if n == 1:
            return mean, -np.inf, np.inf
        t = float(special.stdtrit(n - 1, 0.5 + level / 2))
        half = t * float(x.std(ddof=1)) / n**0.5
        return mean, mean - half, mean + half
    raise ValueError(f"kind: expected 'binary' or 'real', found {kind!r}")
