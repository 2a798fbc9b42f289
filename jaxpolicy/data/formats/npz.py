"""Our own file format: one `.npz` file of episodes, described in `data.episodes`."""

from jaxpolicy.data import episodes

load = episodes.load
FROM_ENV = ()  # fields of the env's Config that `load` takes
