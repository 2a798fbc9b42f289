"""The rounds of a run that is being trained: their counts, seconds and rows of metrics."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy.io import checkpoint, summary

COUNTS: tuple[str, ...] = ('updates', 'env_steps')  # what the metrics of a round count


class Place(NamedTuple):
    """Where a setting is trained: its config, its workdir, and what writes checkpoints and rows."""

    config: config_dict.ConfigDict
    directory: Path
    manager: Any
    writer: Any


class Rounds:
    """Writes what rounds found, once somebody has the time to wait for it.

    done: counts up to the last row, as Python's integers, which do not overflow.

    Args:
      places: of the settings that are trained.
      several: whether what rounds find leads with [K], for so many settings that share a program.
    """

    def __init__(self, places: Sequence[Place], several: bool):
        self._places, self._several = places, several
        self._pending: list[tuple[int, Any, Any]] = []  # rounds whose metrics nobody has read yet
        self.done: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self._sound: list[Any] = [True] * len(places)  # whose numbers are finite, each [S] bool
        # Seconds of either, evaluations left out; each setting counts its share of them.
        self._train_s = self._compile_s = 0.0
        self._since = time.perf_counter()  # the time up to which they count

    @property
    def num_pending(self) -> int:
        """How many rounds have no row yet."""
        return len(self._pending)

    def add(self, index: int, found: Mapping[str, Any], sound: Any) -> None:
        """Takes in a round that the device may still compute.

        Args:
          found: its metrics.
          sound: whether its numbers are finite: [] or [S], with [K] before it for settings.
        """
        self._pending.append((index, found, sound))

    def last_sound(self) -> np.ndarray:
        """The `sound` of the last round."""
        return np.asarray(self._pending[-1][2])

    def go_on(self, meta: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
        """Goes on from the facts of a checkpoint, and its counts."""
        self._train_s, self._compile_s = meta['train_s'], meta.get('compile_s', 0.0)
        self.done = {name: int(counts[name]) for name in COUNTS}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the rounds."""
        return self.done | {'train_s': self._train_s, 'compile_s': self._compile_s}

    def write(self, keep: int = 0, extras: Sequence[dict] = ()) -> None:
        """Writes the rows of all pending rounds but the last `keep`.

        Args:
          extras: what joins the last row of each setting; () for nothing.

        Raises:
          ValueError: nobody's numbers are finite any more.
        """
        while len(self._pending) > keep:
            index, found, sound = self._pending.pop(0)
            rows, before = jax.device_get(found), self.done['updates']
            for name in COUNTS:  # the same for all settings and seeds
                self.done[name] += int(np.asarray(rows.pop(name)).reshape(-1)[0])
            self.count_training()
            updates = f'updates {before + 1} to {self.done["updates"]}'
            for at in self.going():
                row = {n: x[at] for n, x in rows.items()} if self._several else rows
                row = {f'train/{name}': x for name, x in row.items()}
                row |= {'time/train_s': self._train_s, 'time/compile_s': self._compile_s}
                row |= extras[at] if extras and not self._pending else {}
                self._places[at].writer.write(summary.over_seeds(row), index, **self.done)
                mine = np.asarray(sound)[at] if self._several else np.asarray(sound)
                self._check(at, f'round {index}, {updates}', mine)
            if not self.going():
                raise ValueError('training stops, as no numbers are left that are finite')

    def going(self) -> list[int]:
        """The settings that go on: those with a seed whose numbers are finite."""
        return [at for at, sound in enumerate(self._sound) if np.any(sound)]

    def _check(self, at: int, when: str, sound: np.ndarray) -> None:
        """Says whose numbers are no longer finite, given [] or [S] whether they are.

        Raises:
          ValueError: nobody's are in a run alone, so that there is nothing to go on with.
        """
        sound = np.atleast_1d(sound)
        lost = np.flatnonzero(~sound & self._sound[at])
        self._sound[at] = sound
        if not len(lost):
            return
        who = f'of seeds {", ".join(map(str, lost))} of the {len(sound)} ' if len(sound) > 1 else ''
        text = f'the loss or the parameters {who}are no longer finite in {when}'
        where = f'{self._places[at].directory}: ' if self._several else ''
        if sound.any():
            print(f'warning: {where}{text}', file=sys.stderr)
            return
        manager = self._places[at].manager
        manager.wait_until_finished()
        last = checkpoint.latest_step(manager)
        kept = 'no checkpoint was saved before' if last is None else f'checkpoint {last} is kept'
        text = f'{where}{text}: training stops, and {kept}; try a lower learning rate'
        if not self._several:
            raise ValueError(text)
        print(text, file=sys.stderr)

    def count_training(self) -> None:
        """Counts the time since the last call as training."""
        self._train_s += self._share_s()

    def count_compiling(self) -> None:
        """Counts the time since the last call as compiling."""
        self._compile_s += self._share_s()

    def leave_out(self) -> None:
        """Counts the time since the last call as neither."""
        self._share_s()

    def _share_s(self) -> float:
        """The share of a setting in the seconds since the last call."""
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        return passed / len(self._places)
