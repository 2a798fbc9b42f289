"""What pictures of tasks must show."""

import numpy as np


def goal(task, config, states):
    """Asserts that the one picture of the states [1] shows a green goal, and a pillar in detour."""
    frames = task.render(config, states, 60, 80)
    assert frames.shape == (1, 60, 80, 3)
    assert frames.dtype == np.uint8
    red, green, blue = np.moveaxis(frames[0].astype(int), -1, 0)
    assert ((green > red + 20) & (green > blue + 20)).sum() > 5
    assert (((red > green + 50) & (red > blue + 50)).sum() > 20) == (task.name == 'detour')
