"""Pictures of tasks in the plane: colours, and which pixels a shape covers."""

from collections.abc import Sequence

import numpy as np

GOAL = (144, 238, 144)  # green
OBJECT = (119, 136, 153)  # slate grey
AGENT = (65, 105, 225)  # blue, for the part that an action moves
FIXED = (211, 211, 211)  # light grey


def canvas(
    low: tuple[float, float], high: tuple[float, float], height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of pixels lie, x and y [H, W], x to the right and y up.

    Pixels are square. The box from `low` to `high` (x, y) is in the middle, as large as it fits.
    """
    scale = max((high[0] - low[0]) / width, (high[1] - low[1]) / height)
    rows, columns = np.mgrid[:height, :width]
    x = (low[0] + high[0]) / 2 + scale * (columns + 0.5 - width / 2)
    y = (low[1] + high[1]) / 2 - scale * (rows + 0.5 - height / 2)
    return x, y


def capsule(
    x: np.ndarray, y: np.ndarray, start: Sequence[float], end: Sequence[float], radius: float
) -> np.ndarray:
    """Which points are within `radius` of the segment from `start` to `end` (x, y), bool."""
    along = np.subtract(end, start)
    squared = max(float(along @ along), 1e-12)  # where start and end are one point
    dx, dy = x - start[0], y - start[1]
    share = np.clip((dx * along[0] + dy * along[1]) / squared, 0.0, 1.0)
    return (dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2 <= radius**2
