"""Which runs of a plan share a program, and why the others do not.

Seeds of a setting always share one. Settings share one if they have the same seeds and differ in
numbers of their agents that only take part in the computation (`runs.together`).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import config_dict

from jaxpolicy.io import checkpoint
from jaxpolicy.runs import together
from jaxpolicy.sweeps import plan

MOST = 8  # settings in a program, if nothing else is asked for


class Shared(NamedTuple):
    """What runs that look alike can share.

    fixed: the numbers of the agent that decide what is computed; they have to be equal.
    most: how many settings fit into memory; 1: each has a program of its own.
    """

    fixed: list[str]
    most: int


def share(
    planned: Sequence[plan.Planned],
    look: Callable[[Sequence[config_dict.ConfigDict], Sequence[int]], Shared],
    most: int = MOST,
) -> tuple[list[list[plan.Planned]], list[str]]:
    """Groups the runs that can share a program; a run that cannot is a group of its own.

    Args:
      look: (configs, seeds) -> `Shared`, of runs that differ in numbers of their agents.
      most: how many settings a program trains at most.

    Returns:
      the groups, in the order of the plan, and sentences that say why runs which look alike do not
      share a program.
    """
    if most < 2:
        return [[run] for run in planned], []
    training = [run for run in planned if not run.trained_by]
    configs = plan.configs_of(training)
    alike: dict[str, list[plan.Planned]] = {}
    for run in training:
        rest = [together.without(configs[run.identity]), run.seeds]
        alike.setdefault(json.dumps(rest, sort_keys=True), []).append(run)
    groups, why = [[run] for run in planned if run.trained_by], []
    for runs in alike.values():
        if not runs[1:]:
            groups += [[run] for run in runs]
            continue
        found = look([configs[run.identity] for run in runs], runs[0].seeds)
        if found.most < 2:
            reason = 'such runs share no program, or two of them do not fit into memory'
            why.append(f'{runs[0].recipe}: {reason}')
        elif found.fixed:
            keys = ', '.join(f'agent.{name}' for name in found.fixed)
            why.append(f'{runs[0].recipe}: {keys} decides what is computed')
        by_value: dict[str, list[plan.Planned]] = {}
        for run in runs:
            agent = configs[run.identity].agent
            by_value.setdefault(json.dumps([agent[name] for name in found.fixed]), []).append(run)
        for same in by_value.values():
            groups += _parts(same, min(most, found.most))
    order = {run.identity: index for index, run in enumerate(planned)}
    return sorted(groups, key=lambda group: order[group[0].identity]), list(dict.fromkeys(why))


def _parts(runs: list[plan.Planned], most: int) -> list[list[plan.Planned]]:
    """The runs in parts of about the same size, none of more than `most`."""
    count = -(-len(runs) // most)
    size = -(-len(runs) // count)
    return [runs[begin : begin + size] for begin in range(0, len(runs), size)]


def at_one_round(folder: Path, group: Sequence[plan.Planned]) -> list[list[plan.Planned]]:
    """The parts of a group that have been trained up to the same round, as a program needs."""
    found: dict[int, list[plan.Planned]] = {}
    for run in group:
        saved = folder / run.workdir / checkpoint.FOLDER
        steps = [int(path.name) for path in saved.glob('*') if path.name.isdigit()]
        found.setdefault(max(steps, default=0), []).append(run)
    return list(found.values())
