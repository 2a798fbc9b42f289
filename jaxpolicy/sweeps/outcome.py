"""Reads what a run found from its workdir, and why it failed from what it printed."""

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpolicy.io import metrics, workdir
from jaxpolicy.sweeps import acting, plan, result

_NUM_LINES, _NUM_BYTES = 12, 100_000  # of the log: how much is kept as an error, and read for it
_OUT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'MemoryError', 'ut of memory', 'too little memory')
_NOT_FINITE = ('no longer finite', 'FloatingPointError', 'not finite')


def collect(
    folder: Path,
    run: plan.Planned,
    status: result.Status,
    memory_bytes: int | None = None,
    error: str = '',
    stopped: str = '',
) -> result.Result:
    """The result of a run, from the metrics in its workdir, as far as there are any.

    Args:
      folder: of the sweep.
      memory_bytes, error, stopped: as in `result.Result`.
    """
    try:
        rows = rows_of(folder, run)
    except ValueError as unsound:  # of one run, which does not concern the others
        rows, error = [], f'{error}\n{unsound}'.strip()
    curve = curve_of(rows, run.score, len(run.seeds))
    last = rows[-1] if rows else {}
    columns = list(zip(*(entry['values'] for entry in curve), strict=True))
    episodes, device = _record(folder, run)
    return result.Result(
        name=run.name,
        identity=run.identity,
        workdir=run.workdir,
        task=run.task,
        recipe=run.recipe,
        changes=run.changes,
        seeds=run.seeds,
        status=status,
        score=run.score,
        scores=list(curve[-1]['values']) if curve else [None] * len(run.seeds),
        best=[_best(column) for column in columns] or [None] * len(run.seeds),
        curve=curve,
        num_episodes=episodes,
        budget=run.budget or _budget(run, last),
        train_s=float(last.get('time/train_s', 0.0)),
        compile_s=float(last.get('time/compile_s', 0.0)),
        eval_s=float(sum(row.get('time/eval_s', 0.0) for row in rows)),
        memory_bytes=memory_bytes,
        device=device,
        error=error,
        stopped=stopped,
    )


def rows_of(folder: Path, run: plan.Planned) -> list[metrics.Row]:
    """The metrics of a run, as far as there are any; folder: of the sweep.

    Raises:
      ValueError: a file in its workdir is unsound.
    """
    return acting.rows(folder, run) if run.trained_by else metrics.read(folder / run.workdir)


def num_rounds(folder: Path, run: plan.Planned) -> int:
    """How many rounds a run has trained so far."""
    try:
        rows = metrics.read(folder / run.workdir)
    except ValueError:
        return 0
    return int(rows[-1]['round']) if rows else 0


def curve_of(rows: Sequence[metrics.Row], score: str, num_seeds: int) -> list[dict[str, Any]]:
    """The evaluations among rows of metrics, each as `result.Result.curve` has them."""
    return [
        {'env_steps': int(row['env_steps']), 'updates': int(row['updates']), 'values': values}
        for row, values in evaluations_of(rows, score, num_seeds)
    ]


def evaluations_of(
    rows: Sequence[metrics.Row], score: str, num_seeds: int
) -> list[tuple[metrics.Row, list[float | None]]]:
    """The rows that have an evaluation, and the score of each seed; None where it is no number."""
    one = num_seeds == 1
    names = [f'eval/{score}'] if one else [f'seed{i}/eval/{score}' for i in range(num_seeds)]
    return [
        (row, [_finite(row.get(name, math.nan)) for name in names])
        for row in rows
        if names[0] in row
    ]


def why_failed(
    folder: Path, run: plan.Planned, status: int, log: Path, shared: bool = False
) -> str:
    """The kind of a failure and the last lines that the run printed; '' where it did not fail.

    Args:
      status: of its process, below 0 for a signal.
      log: what the process printed.
      shared: whether it trained other runs as well, which may have gone on without this one.
    """
    lines = _last_lines(log)
    if status == 0:
        try:
            if run.trained_by:
                return '' if acting.rows(folder, run) else 'it wrote no results'
            config = workdir.load_record(folder / run.workdir)['config']
            rows = metrics.read(folder / run.workdir)
        except ValueError as error:
            return str(error)
        if plan.mark(config) != run.config:
            return f'{run.recipe} was changed after the plan was made: sweep again'
        if not shared or (rows and rows[-1]['round'] >= run.num_rounds):
            return ''
        lines = [line for line in lines if Path(run.workdir).name in line]
    text = '\n'.join(lines)
    kind = f'exit status {status}'
    if any(sign in text for sign in _OUT_OF_MEMORY):
        kind = 'out of memory'
    elif any(sign in text for sign in _NOT_FINITE):
        kind = 'numbers that are not finite'
    elif status == -signal.SIGKILL:
        kind = 'killed (SIGKILL), as by a system that is out of memory'
    elif status < 0:
        kind = f'killed ({signal.Signals(-status).name})'
    return '\n'.join([kind, *lines])


def _last_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open('rb') as file:
        file.seek(max(0, path.stat().st_size - _NUM_BYTES))
        text = file.read().decode(errors='replace')
    return [line.rstrip() for line in text.splitlines() if line.strip()][-_NUM_LINES:]


def _record(folder: Path, run: plan.Planned) -> tuple[int, str]:
    """The number of episodes of an evaluation, and the device, from the files of the run."""
    try:
        if run.trained_by:
            return run.num_episodes, acting.device(folder, run)
        record = workdir.load_record(folder / run.workdir)
    except ValueError:
        return 0, ''
    evaluations = record['config'].get('eval', {})
    return evaluations.get('num_episodes', 0), record.get('versions', {}).get('device', '')


def _budget(run: plan.Planned, last: dict[str, Any]) -> int:
    """Env steps (updates, where there are none) of the whole run, from those of its last round."""
    if not last:
        return 0
    count = last['env_steps'] or last['updates']
    return round(count * run.num_rounds / last['round'])


def _best(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
