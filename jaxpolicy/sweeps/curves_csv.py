"""Learning curves of other people's runs, in CSV files, as the results of a sweep.

The columns are exp_name, env_name, seed, metric, env_step and value, as in the results that SimbaV2
publishes (https://github.com/dojeon-ai/SimbaV2); others are left out.
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from jaxpolicy.sweeps.result import Result

COLUMNS = ('exp_name', 'env_name', 'seed', 'metric', 'env_step', 'value')


def read(paths: Iterable[Path], metric: str = 'avg_return') -> list[Result]:
    """A result for each algorithm, task and seed that has the metric.

    Files write `dog_run` and `dog-run` of the same task: the name has dashes here. Of two values at
    the same env step, the later line counts.

    Raises:
      ValueError: a file lacks a column or has a line that is no number, or no line has the metric.
    """
    curves: dict[tuple[str, str, int], dict[float, float]] = {}
    metrics = set()
    for path in paths:
        with open(path, newline='', encoding='utf-8') as file:
            lines = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if missing:
                raise ValueError(f'{path}: expected the columns {COLUMNS}, found no {missing[0]!r}')
            for line in lines:
                metrics.add(line['metric'])
                if line['metric'] != metric:
                    continue
                try:
                    seed, step = int(float(line['seed'])), float(line['env_step'])
                    value = float(line['value'])
                except (TypeError, ValueError, OverflowError) as error:
                    raise ValueError(f'{path}, line {lines.line_num}: {error}') from error
                name = (line['exp_name'], line['env_name'].replace('_', '-'), seed)
                curves.setdefault(name, {})[step] = value
    if not curves:
        raise ValueError(f'--metric: expected one of {sorted(metrics)}, found {metric!r}')
    return [_result(*name, sorted(curve.items()), metric) for name, curve in curves.items()]


def _result(
    setting: str, task: str, seed: int, curve: list[tuple[float, float]], metric: str
) -> Result:
    values = [value if math.isfinite(value) else None for _, value in curve]
    numbers = [value for value in values if value is not None]
    return Result(
        name=setting,
        identity=f'{setting}, {task}, seed {seed}',
        workdir='',
        task=task,
        recipe=setting,
        changes={},
        seeds=[seed],
        status='finished',
        score=metric,
        scores=[values[-1]],
        best=[max(numbers, default=None)],
        curve=[
            {'env_steps': int(step), 'updates': 0, 'values': [value]}
            for (step, _), value in zip(curve, values, strict=True)
        ],
        num_episodes=0,
        budget=int(curve[-1][0]),
        train_s=0.0,
        compile_s=0.0,
        eval_s=0.0,
        memory_bytes=None,
        device='',
    )
