"""The plan of a sweep in words: its runs, how many there are, and how long they take."""

from collections.abc import Sequence
from pathlib import Path

from jaxpolicy.sweeps import driver, estimate, plan, result


def of(
    folder: Path,
    planned: Sequence[plan.Planned],
    left: Sequence[plan.Planned],
    num_slots: int,
    most: int,
    took_s: float,
) -> str:
    """The plan as lines of text.

    Args:
      left: the runs that are to be trained.
      num_slots: how many of them at once.
      most: runs that are shown, at most; 0: all.
      took_s: seconds that planning and checking took.
    """
    to_train = {run.identity for run in left}
    over = {found.identity: found.status for found in result.read(folder)}
    lines = []
    for run in planned[: most or None]:
        status = '' if run.identity in to_train else f', {over[run.identity]}'
        lines.append(f'  {run.name}, {driver.seeds_text(run.seeds)}{status}')
    if len(planned) > len(lines):
        lines.append(f'  ... and {len(planned) - len(lines)} more')
    settings = len({run.setting for run in planned})
    lines.append(
        f'{len(planned)} runs of {settings} settings, of which {len(left)} are to be trained; '
        'seeds in one line share a program, and every setting has programs of its own; '
        f'checked in {estimate.duration(took_s)}'
    )
    if time := estimate.text(folder, left, num_slots):
        lines.append(time)
    return '\n'.join(lines)
