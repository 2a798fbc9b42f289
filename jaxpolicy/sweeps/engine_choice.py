"""The engine that the flags of a sweep choose: first checked, and opened when runs are to start."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jaxpolicy.io.engine_flags import Chosen
from jaxpolicy.sweeps import engine, on_ray, on_slurm


def check(chosen: Chosen) -> None:
    """Raises a ValueError or an ImportError where the engine cannot be as it was asked for."""
    if chosen.engine == 'slurm':
        on_slurm.check()
        on_slurm.parse(chosen.slurm)
    elif chosen.engine == 'ray':
        on_ray.check(chosen.ray_address)
    else:
        engine.local(chosen.workers)


def num_slots(chosen: Chosen) -> int:
    """How many jobs it runs at once, as far as that is known before it is opened; else 1."""
    return chosen.workers or (engine.local().num_slots if chosen.engine == 'local' else 1)


@contextlib.contextmanager
def opened(chosen: Chosen, folder: Path) -> Iterator[engine.Engine]:
    """The engine for a sweep in `folder`; it is closed at the end."""
    if chosen.engine == 'slurm':
        yield on_slurm.make(folder, on_slurm.parse(chosen.slurm), chosen.workers)
    elif chosen.engine == 'ray':
        with on_ray.opened(
            chosen.ray_address, chosen.workers, chosen.cpus_per_run, chosen.gpus_per_run
        ) as where:
            yield where
    else:
        yield engine.local(chosen.workers)
