"""Runs that only act: what another run of the sweep has trained is evaluated in another way.

Such a run is the command `evaluate` on the last checkpoint of the run that trained. Its workdir is
a folder in that run's, with the evaluation's files.
"""

import json
from pathlib import Path
from typing import Any

from jaxpolicy.io import metrics, results
from jaxpolicy.sweeps import plan, result


def arguments(folder: Path, run: plan.Planned) -> list[str]:
    """The command that evaluates, and its flags; folder: of the sweep."""
    place = folder / run.workdir
    return [
        *('evaluate', f'--workdir={place.parent}', f'--name={place.name}', '--checkpoint=latest'),
        *(f'--num_episodes={run.num_episodes}', f'--first_seed={run.first_seed}'),
        *(f'--override={key}={text}' for key, text in run.overrides),
    ]


def trained(folder: Path, run: plan.Planned) -> result.Result | None:
    """The result of the run that this one needs; None where it has none yet."""
    return next((one for one in result.read(folder) if one.identity == run.trained_by), None)


def rows(folder: Path, run: plan.Planned) -> list[metrics.Row]:
    """What was found, as the one row of metrics of a run; [] before that.

    Its counts are those of the last row of the run that trained, which its last checkpoint is of.

    Raises:
      ValueError: the evaluation's files do not have what they should.
    """
    found = _summary(folder, run)
    before = metrics.read((folder / run.workdir).parent)
    if found is None or not before:
        return []
    values = found.get('means', {}).get(run.score, [])
    if len(values) != len(run.seeds):
        raise ValueError(
            f'{folder / run.workdir / results.SUMMARY}: expected {run.score} of {len(run.seeds)} '
            f'seeds, found {values}'
        )
    numbers = [float('nan') if value is None else value for value in values]
    prefixes = [f'seed{i}/' for i in range(len(numbers))] if len(numbers) > 1 else ['']
    row = {f'{prefix}eval/{run.score}': x for prefix, x in zip(prefixes, numbers, strict=True)}
    counts = {name: before[-1][name] for name in ('env_steps', 'updates')}
    return [row | counts | {'round': run.num_rounds, 'time/eval_s': found.get('eval_s', 0.0)}]


def device(folder: Path, run: plan.Planned) -> str:
    """The device of the evaluation; '' before it."""
    return (_summary(folder, run) or {}).get('versions', {}).get('device', '')


def _summary(folder: Path, run: plan.Planned) -> dict[str, Any] | None:
    path = folder / run.workdir / results.SUMMARY
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path}: not JSON, remove it: {error}') from error
