"""Demonstrations as a table of text: episode, observations, actions."""

import numpy as np

from jaxpolicy.data.episodes import Episodes

FROM_ENV = ()


def load(path: str) -> Episodes:
    table = np.loadtxt(path, delimiter=',', dtype=np.float32)
    ends = np.flatnonzero(np.diff(table[:, 0], append=np.inf)) + 1
    return Episodes(table[:, 1:3].copy(), table[:, 3:].copy(), ends.astype(np.int64))
