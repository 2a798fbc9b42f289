"""Weights & Biases as a tracker: a run there for each run here, with its config and its rows.

The workdir's wandb_run.json has the id of the run there and the last round that it was told, so
that a run that is continued is continued there, too, and no round is told twice. Rounds that are
trained again after a kill give the rows that they gave before.
"""

import importlib.util
import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from jaxpolicy.io import fingerprint, trackers, workdir

FILE = 'wandb_run.json'
FLAG = 'wandb_project'
_FINISH_S = 120.0  # how long the end of a run waits for the network; `wandb sync` sends the rest


class Place(NamedTuple):
    """Where a run is shown: its project, its name, and the group that it belongs to."""

    project: str
    name: str = ''  # '': that of the workdir
    group: str = ''


def define_project() -> None:
    """Defines `--wandb_project`."""
    text = 'Project of Weights & Biases that shows the metrics, too; absent: none.'
    flags.DEFINE_string(FLAG, '', text)


def define_place() -> None:
    """Defines `--wandb_project`, `--wandb_name` and `--wandb_group`."""
    define_project()
    flags.DEFINE_string('wandb_name', '', "The run's name there; absent: that of the workdir.")
    flags.DEFINE_string('wandb_group', '', 'The group that the run belongs to there.')


def place_of_flags() -> Place | None:
    """The place that the flags name; None without `--wandb_project`.

    Raises:
      ValueError: the package is missing, or a name or a group is given alone.
    """
    given = {name: getattr(flags.FLAGS, f'wandb_{name}') for name in Place._fields}
    if given['project']:
        check_installed()
        return Place(**given)
    for name in ('name', 'group'):
        if given[name]:
            raise ValueError(f'--wandb_{name}: expected a --{FLAG} with it, found none')
    return None


def flags_of_sweep(folder: Path) -> list[str]:
    """The flags with which a sweep has its runs shown, but for their names; [] if it does not.

    Raises:
      ValueError: the package is missing.
    """
    if not (project := getattr(flags.FLAGS, FLAG)):
        return []
    check_installed()
    return [f'--{FLAG}={project}', f'--wandb_group={folder.resolve().name}']


def flags_of_run(flags_of_sweep: Sequence[str], name: str) -> list[str]:
    """The flag that names a run there; [] where the flags of its sweep show no runs."""
    shown = any(flag.startswith(f'--{FLAG}=') for flag in flags_of_sweep)
    return [f'--wandb_name={name}'] if shown else []


def check_installed() -> None:
    """Raises a ValueError where the package wandb is missing."""
    if importlib.util.find_spec('wandb') is None:
        raise ValueError(
            f"--{FLAG}: expected the package wandb, found none: pip install 'jaxpolicy[wandb]'"
        )


class Wandb:
    """Shows the rows of a run in Weights & Biases, with WANDB_MODE and its other variables.

    Args:
      directory: the workdir, which has a config.json.
      place: where the run is shown.
      fresh: whether nothing was saved in the workdir yet. A run of another config there is another
        one.
    """

    name = 'Weights & Biases'

    def __init__(self, directory: Path, place: Place, fresh: bool):
        self._directory, self._place, self._fresh = directory, place, fresh
        self._run: Any = None
        self._has_axis = False
        self._there: dict[str, Any] = {}  # what is in FILE

    def open(self, rows: Sequence[trackers.Row]) -> None:
        """Begins or continues the run there, and tells it the rows that it lacks."""
        import wandb

        config = trackers.flat_config(self._directory)
        self._there = self._known(fingerprint.of([json.dumps(config, sort_keys=True)]))
        self._run = wandb.init(
            project=self._place.project,
            id=self._there['id'],
            resume='allow',
            name=self._place.name or self._directory.resolve().name,
            group=self._place.group or None,
            config=config,
            allow_val_change=True,  # a run that is continued may have grown
            dir=str(self._directory),
            reinit='create_new',
            settings=wandb.Settings(console='off', finish_timeout=_FINISH_S),
        )
        self._keep()
        for row in rows:
            self.write(row)

    def write(self, row: trackers.Row) -> None:
        """Tells a row, unless its round was told before."""
        if row['round'] <= self._there['round']:
            return
        if not self._has_axis:
            self._has_axis = True
            axis = 'env_steps' if row['env_steps'] else 'updates'
            self._run.define_metric('*', step_metric=axis)
        self._run.log(row, step=int(row['round']))
        self._there['round'] = int(row['round'])
        self._keep()

    def truncate(self, rows: Sequence[trackers.Row]) -> None:
        """Does nothing: rows cannot be taken back there, and those that follow are the same."""

    def close(self) -> None:
        """Ends the run there; as failed, where an error ends it here."""
        if self._run is not None:
            self._run.finish(exit_code=int(sys.exc_info()[0] is not None))
            self._run = None

    def _keep(self) -> None:
        if self._run.disabled:  # with WANDB_MODE=disabled, nothing was told
            return
        workdir.write_json(self._directory / FILE, self._there)

    def _known(self, config: str) -> dict[str, Any]:
        """The run there: the one that was begun before, or a new one; config: identifies it."""
        new = {'project': self._place.project, 'id': uuid.uuid4().hex[:16], 'round': 0}
        path = self._directory / FILE
        there = json.loads(path.read_text()) if path.exists() else {}
        same = there.get('project') == new['project']
        if same and not (self._fresh and there.get('config') != config):
            return there
        return new | {'config': config}
