"""What one run of a sweep found, as it is written to results/<identity>.json, one file a run."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from jaxpolicy.io import workdir

FOLDER = 'results'
Status = Literal['running', 'finished', 'failed', 'stopped']


@dataclasses.dataclass(frozen=True)
class Result:
    """One run: one setting, with one seed or several that were trained together.

    name: of the setting, by what differs from the sweep's other settings:
      'agent.learning_rate=0.0001'. Runs of one setting with other seeds have the same name.
    identity: hash of config, seeds and data; no two runs of a sweep have the same.
    workdir: of the run, relative to the folder of the sweep.
    task: the name of the environment; '' without one.
    recipe: which recipe it began with.
    changes: key of the config -> the value that differs.
    seeds: the seeds that were trained.
    status: 'stopped' is a run that was ended early on purpose; 'failed' is one whose last error is
      in `error`.
    score: the name of the metric that `scores` and `curve` are of, such as 'success_max'.
    scores: the last evaluation of each seed; None where it is no number.
    best: the highest evaluation of each seed, which is chosen on the evaluation's own episodes.
    curve: one entry for each evaluation: {'env_steps', 'updates', 'values': one of each seed}.
    num_episodes: of each evaluation.
    budget: env steps (updates, where there are none) that the run was to have.
    train_s, compile_s, eval_s: seconds.
    memory_bytes: the most that the process held at once; None where that is not known.
    device: on which it ran, '1 x cpu'.
    error: the last lines of the traceback of a run that failed; '' otherwise.
    stopped: where and why a run is ended early on purpose; '' otherwise.
    """

    name: str
    identity: str
    workdir: str
    task: str
    recipe: str
    changes: dict[str, Any]
    seeds: list[int]
    status: Status
    score: str
    scores: list[float | None]
    best: list[float | None]
    curve: list[dict[str, Any]]
    num_episodes: int
    budget: int
    train_s: float
    compile_s: float
    eval_s: float
    memory_bytes: int | None
    device: str
    error: str = ''
    stopped: str = ''


def write(folder: Path, result: Result) -> None:
    """Writes the result of a run of the sweep in `folder`, atomically."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    workdir.write_json(place / f'{result.identity}.json', dataclasses.asdict(result))


def read(folder: Path) -> list[Result]:
    """All results of the sweep in `folder`, by name and first seed; [] if there are none.

    Raises:
      ValueError: a file is no result; the message names it.
    """
    found = []
    for path in sorted((folder / FOLDER).glob('*.json')):
        try:
            found.append(Result(**json.loads(path.read_text())))
        except (ValueError, TypeError) as error:
            raise ValueError(f'{path}: expected the result of a run: {error}') from error
    return sorted(found, key=lambda result: (result.name, result.seeds))
