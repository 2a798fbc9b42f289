"""Flags that define a sweep: its recipes, settings and seeds."""

from pathlib import Path
from typing import Any

from absl import flags

from jaxpolicy.io import flags as config_flags

_FIELDS = {  # flag: field of `sweeps.definition.Sweep`
    'grid': 'grid',
    'acting': 'acting',
    'random': 'num_random',
    'sweep_seed': 'sweep_seed',
    'seed': 'seed',
    'num_seeds': 'num_seeds',
}


def define() -> None:
    """Defines the flags, but for `--config`."""
    flags.DEFINE_string('sweep', '', 'Recipe of a sweep, configs/sweeps/<name>.py.')
    flags.DEFINE_string('grid', '', "Values of each key: 'agent.tau=0.01,0.02 agent.gamma=0.9'.")
    flags.DEFINE_string('acting', '', 'Like --grid: evaluate what was trained in other ways.')
    config_flags.define_input('list', None, "File of settings: 'name: key=value'.", folder=False)
    flags.DEFINE_integer('random', 0, 'Settings to draw from --grid; 0: all.', lower_bound=0)
    config_flags.define_seed('sweep_seed', 0, 'Seed of what --random draws.')
    config_flags.define_seed('seed', 0, 'First seed of every setting.')
    flags.DEFINE_integer('num_seeds', 1, 'Seeds of every setting, from --seed on.', lower_bound=1)


def fields() -> dict[str, Any]:
    """The fields of a sweep that are given on the command line, and their values."""
    found: dict[str, Any] = {
        field: flags.FLAGS[name].value
        for name, field in _FIELDS.items()
        if flags.FLAGS[name].present
    }
    if flags.FLAGS.config.names:
        found['recipes'] = tuple(flags.FLAGS.config.names)
    if flags.FLAGS.list:
        found['settings'] = tuple(Path(flags.FLAGS.list).read_text().splitlines())
    return found
