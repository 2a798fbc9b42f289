"""Early stopping of weak settings by asynchronous successive halving, which Optuna judges.

A setting is judged with the mean over all its seeds, once all its runs have been evaluated after a
share `first` of their rounds, then after `factor` times as many, and so on. It goes on if it is in
the best 1/factor of the settings of its task and metric that have come as far by then, and always
where it is the best of them. What is stopped is not taken up again, so that nothing waits for
settings that are slower: `optuna.pruners.SuccessiveHalvingPruner`, after Li et al., *A system for
massively parallel hyperparameter tuning* (MLSys 2020).

Optuna is told of a setting's evaluations alone; the runs are asked to stop by the driver.
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxpolicy.io import metrics
from jaxpolicy.sweeps import grid, outcome, plan, result

_STEPS = 1_000_000  # of a whole run, as Optuna counts its length in integers
_WORST = -math.inf


class Options(NamedTuple):
    """When settings are judged.

    factor: of the settings that come as far, one in so many goes on; at least 2.
    first: the share of a run's rounds after which it is judged first, between 0 and 1; 0:
      1 / factor**2, so that there are two judgements.
    """

    factor: int = 3
    first: float = 0.0

    def start(self) -> float:
        """The share of a run after which it is judged first."""
        return self.first or 1.0 / self.factor**2


def read_options(text: str) -> Options | None:
    """Reads the flag `--halving`: 'factor=3 first=0.1', or 'true' where it stands alone.

    Returns:
      None where the flag is absent.

    Raises:
      ValueError: an option is unknown or out of its range, or the package is missing.
    """
    if text in ('', 'false'):
        return None
    given: dict[str, Any] = {}
    for key, value in grid.changes('' if text == 'true' else text, '--halving'):
        if key not in Options._fields:
            raise ValueError(f'--halving: expected {" or ".join(Options._fields)}, found {key!r}')
        kind, words = (int, 'an integer') if key == 'factor' else (float, 'a number')
        try:
            given[key] = kind(value)
        except ValueError as error:
            raise ValueError(f'--halving: {key}: expected {words}, found {value!r}') from error
    options = Options(**given)
    if options.factor < 2:
        raise ValueError(f'--halving: factor: expected at least 2, found {options.factor}')
    if 'first' in given and not 0.0 < options.first < 1.0:
        raise ValueError(f'--halving: first: expected between 0 and 1, found {options.first}')
    if importlib.util.find_spec('optuna') is None:
        install = "pip install 'jaxpolicy[halving]'"
        raise ValueError(f'--halving: expected the package optuna, found none: {install}')
    return options


def check(planned: Sequence[plan.Planned]) -> None:
    """Raises a ValueError where no setting could ever be stopped."""
    rivals: dict[tuple[str, str], set[str]] = {}
    training = [run for run in planned if not run.trained_by]
    configs = plan.configs_of(training)
    for run in training:
        every = configs[run.identity].eval.every
        if not 0 < every < run.num_rounds:
            raise ValueError(
                f'--halving: {run.name}: config.eval.every: expected from 1 to below the '
                f'{run.num_rounds} rounds of the run, found {every}'
            )
        rivals.setdefault((run.task, run.score), set()).add(run.setting)
    if all(len(names) < 2 for names in rivals.values()):
        raise ValueError(
            '--halving: expected at least two settings with the same task and eval.score, found one'
        )


def order(left: Sequence[plan.Planned]) -> list[plan.Planned]:
    """The runs in an order that has nothing to do with that of a grid; those of a setting together.

    Where each setting is better than the one before, none would be stopped.
    """
    return sorted(left, key=lambda run: (run.setting, run.identity))  # hashes


class _Setting:
    """The evaluations of a setting, of which `num_judged` are known to Optuna.

    why: where and why it was stopped; '' where it goes on.
    """

    def __init__(self, trial: Any, runs: list[plan.Planned]):
        self.trial, self.runs, self.num_judged, self.why = trial, runs, 0, ''
        self.found: dict[str, dict[int, list[float | None]]] = {run.identity: {} for run in runs}
        self.size: dict[str, int] = {run.identity: -1 for run in runs}  # bytes that were read
        self.failed = False  # whether a run did, which has then no evaluations in `found`

    def values(self) -> list[tuple[int, float]]:
        """(round, mean over seeds) of each evaluation that all runs have, in order.

        A seed without a sound score, or a run that failed, makes the setting the worst one.
        """
        means = []
        columns = list(self.found.values())
        for index in sorted(set.intersection(*map(set, columns))) if columns else ():
            scores = [value for column in columns for value in column[index]]
            sound = [value for value in scores if value is not None]
            whole = len(sound) == len(scores) and not self.failed
            means.append((index, sum(sound) / len(sound) if whole else _WORST))
        return means


class Judge:
    """Says which runs are to be stopped; what it knows, it reads from results and metrics.

    A setting that passed a judgement before, with fewer others, is not judged there again.
    """

    def __init__(self, folder: Path, planned: Sequence[plan.Planned], options: Options):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._folder, self._options = folder, options
        self._settings: dict[str, _Setting] = {}
        studies: dict[tuple[str, str], Any] = {}
        by_setting: dict[str, list[plan.Planned]] = {}
        for run in planned:
            if run.trained_by:  # it is judged by the run that trains
                continue
            by_setting.setdefault(run.setting, []).append(run)
        for name, runs in by_setting.items():
            key = (runs[0].task, runs[0].score)
            if key not in studies:
                first = max(1, round(options.start() * _STEPS))
                pruner = optuna.pruners.SuccessiveHalvingPruner(first, options.factor)
                studies[key] = optuna.create_study(direction='maximize', pruner=pruner)
            self._settings[name] = _Setting(studies[key].ask(), runs)
        before = {found.identity: found for found in result.read(folder)}
        for setting in self._settings.values():
            there = [before[run.identity] for run in setting.runs if run.identity in before]
            setting.why = next((found.stopped for found in there if found.stopped), '')
            for run in setting.runs:
                self._read(setting, run)
            finished = sum(found.status == 'finished' for found in there)
            values, goes_on = setting.values(), not setting.why and finished < len(setting.runs)
            # The last one of a run that goes on may be new, and is judged with the next ones.
            self._judge(setting, values[:-1] if goes_on else values, anew=False)

    def why_stopped(self, run: plan.Planned) -> str:
        """Where and why the setting of a run is stopped; '' where the run shall go on."""
        if run.trained_by:
            return ''
        setting = self._settings[run.setting]
        if not setting.why and self._read(setting, run):
            self._judge(setting, setting.values(), anew=True)
        return setting.why

    def fail(self, run: plan.Planned) -> None:
        """Takes in that a run failed for good, which makes its setting the worst one."""
        if run.trained_by:
            return
        setting = self._settings[run.setting]
        setting.failed = True
        setting.found.pop(run.identity, None)

    def _read(self, setting: _Setting, run: plan.Planned) -> bool:
        """Reads the evaluations of a run; whether there may be new ones."""
        path = self._folder / run.workdir / metrics.JSONL
        size = path.stat().st_size if path.exists() else 0
        if size == setting.size[run.identity]:
            return bool(setting.num_judged < len(setting.values()))
        setting.size[run.identity] = size
        try:
            rows = metrics.read(self._folder / run.workdir)
        except ValueError:  # the driver names what is wrong with the file when the run ends
            return False
        # what an earlier process judged stays as it was
        evaluations = outcome.evaluations_of(rows, run.score, len(run.seeds))
        setting.found[run.identity] |= {int(row['round']): values for row, values in evaluations}
        return True

    def _judge(self, setting: _Setting, values: list[tuple[int, float]], anew: bool) -> None:
        """Reports evaluations to Optuna; anew: whether the setting may be stopped by them."""
        last = setting.runs[0].num_rounds
        for index, value in values[setting.num_judged :]:
            setting.num_judged += 1
            setting.trial.report(value, index * _STEPS // last)
            weak = setting.trial.should_prune()
            if weak and anew and not setting.why and index < last:
                score = 'without a sound score' if value == _WORST else f'at {value:.4g}'
                setting.why = (
                    f'after round {index} of {last}, {score}: not among the best '
                    f'1/{self._options.factor} of the settings that came as far'
                )
