"""Writes the results of a sweep's runs, counts them, and says how each run ended."""

from collections.abc import Sequence
from pathlib import Path

from jaxpolicy.sweeps import estimate, plan, result


class Tally:
    """Counts how the runs of a sweep ended.

    Args:
      folder: of the sweep.
      total: how many runs there are to be made.
      clock: estimates how long those that are left take.
    """

    def __init__(self, folder: Path, total: int, clock: estimate.Clock):
        self._folder, self._total, self._clock = folder, total, clock
        self.counts: dict[str, int] = dict.fromkeys(('finished', 'failed', 'stopped'), 0)

    def end(
        self, run: plan.Planned, found: result.Result, waiting: Sequence[plan.Planned] | None
    ) -> None:
        """Writes the result of a run that is over, and prints it.

        Args:
          waiting: the runs that have not begun; None: the time that is left is not printed.
        """
        result.write(self._folder, found)
        self._clock.end(run, found)
        self.counts[found.status] += 1
        done = sum(self.counts.values())
        text = f'[{done}/{self._total}] {plan.title(run)}: {found.status}'
        text += f' {found.stopped}' if found.stopped else ''
        if sound := [score for score in found.scores if score is not None]:
            text += f', {found.score} {sum(sound) / len(sound):.4g}'
            text += f' (mean of {len(sound)} seeds)' if len(found.seeds) > 1 else ''
        if found.status == 'finished' and found.score and len(sound) < len(found.seeds):
            text += f', {len(found.seeds) - len(sound)} seeds whose last score is no number'
        if (left := self._total - done) and waiting is not None:
            rest_s = self._clock.left_s(waiting)
            about = '' if rest_s is None else f'about {estimate.duration(rest_s)} left for '
            text += f'; {about}{left} more run{"s" if left > 1 else ""}'
        print(text, flush=True)
        if found.error:
            print('  ' + found.error.replace('\n', '\n  '), flush=True)
