"""Flags that say where the runs of a sweep are trained."""

from typing import Any, NamedTuple

from absl import flags

_OF_ENGINE = {
    'slurm': 'slurm',
    'ray_address': 'ray',
    'cpus_per_run': 'ray',
    'gpus_per_run': 'ray',
}


class Chosen(NamedTuple):
    """What the flags say.

    engine: 'local', 'slurm' or 'ray'.
    workers: runs at once; 0: as many as the engine has room for.
    slurm: options of the jobs, 'partition=gpu time=04:00:00'.
    ray_address: 'local', 'auto' or 'host:port'.
    cpus_per_run, gpus_per_run: of each run on Ray; None: by what the cluster has.
    """

    engine: str = 'local'
    workers: int = 0
    slurm: str = ''
    ray_address: str = 'local'
    cpus_per_run: float | None = None
    gpus_per_run: float | None = None


def define() -> None:
    """Defines `--engine`, `--workers` and the flags of each engine."""
    engines = ['local', 'slurm', 'ray']
    flags.DEFINE_enum('engine', 'local', engines, 'Where the runs are trained.')
    flags.DEFINE_integer('workers', 0, 'Runs trained at once; 0: see the docs.', lower_bound=0)
    flags.DEFINE_string('slurm', '', "Options of sbatch: 'partition=gpu time=4:00:00 mem=16GB'.")
    flags.DEFINE_string('ray_address', 'local', "A cluster of Ray: 'auto', 'host:port', 'local'.")
    flags.DEFINE_float('cpus_per_run', None, 'CPUs of each run on Ray.', lower_bound=0.01)
    flags.DEFINE_float('gpus_per_run', None, 'GPUs of each run on Ray.', 0.0, 1.0)


def chosen() -> Chosen:
    """What the flags say.

    Raises:
      ValueError: a flag of another engine is given.
    """
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in Chosen._fields}
    for name, needed in _OF_ENGINE.items():
        if flags.FLAGS[name].present and values['engine'] != needed:
            found = values['engine']
            raise ValueError(f'--{name}: expected --engine={needed} with it, found {found}')
    return Chosen(**values)
