"""The plan of a sweep in words: its runs, how many there are, and how long they take."""

from collections.abc import Sequence
from pathlib import Path

from jaxpolicy.sweeps import estimate, plan, result


def of(
    folder: Path,
    planned: Sequence[plan.Planned],
    groups: Sequence[Sequence[plan.Planned]],
    why: Sequence[str],
    num_slots: int,
    most: int,
    took_s: float,
) -> str:
    """The plan as lines of text.

    Args:
      groups: the runs that are to be made, in groups that share a program.
      why: why runs which look alike share none.
      num_slots: how many groups are trained at once.
      most: runs that are shown, at most; 0: all.
      took_s: seconds that planning and checking took.
    """
    over = {found.identity: found.status for found in result.read(folder)}
    shared = [group for group in groups if group[1:]]
    program = {run.identity: number for number, group in enumerate(shared, 1) for run in group}
    left = {run.identity: run for group in groups for run in group}
    lines = []
    for run in planned[: most or None]:
        status = '' if run.identity in left else f', {over[run.identity]}'
        shares = f', program {program[run.identity]}' if run.identity in program else ''
        lines.append(f'  {plan.title(run)}{shares}{status}')
    if len(planned) > len(lines):
        lines.append(f'  ... and {len(planned) - len(lines)} more')
    for train, what in ((True, 'runs'), (False, 'ways of acting with their weights')):
        runs = [run for run in planned if train != bool(run.trained_by)]
        number = sum(run.identity in left for run in runs)
        settings = f' of {len({run.setting for run in runs})} settings' if train else ''
        if runs:
            made = 'trained' if train else 'evaluated'
            lines.append(f'{len(runs)} {what}{settings}, of which {number} are to be {made}')
    if shared:
        runs = sum(map(len, shared))
        programs = f'{len(shared)} program{"s" if shared[1:] else ""}'
        lines.append(f'{runs} of them share {programs}: they differ in numbers of their agents')
    lines += [f'  not in one program: {reason}' for reason in why]
    lines.append(f'checked in {estimate.duration(took_s)}')
    if time := estimate.text(folder, list(left.values()), num_slots):
        lines.append(time)
    return '\n'.join(lines)
