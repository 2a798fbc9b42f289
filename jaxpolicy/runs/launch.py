"""Trains a run in its workdir.

Here the workdir is locked and checked, and the run, its evaluation and its programs are made of the
config. `execution` then does the training.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import config_dict

from jaxpolicy import sharding, types
from jaxpolicy.io import checkpoint, metrics, spec_file, wandb_tracker, workdir
from jaxpolicy.runs import (
    continuing,
    environment,
    evaluation,
    execution,
    kinds,
    program,
    rounds,
    sections,
    together,
)


class Options(NamedTuple):
    """What training is told besides the config."""

    seed: int = 0
    num_seeds: int = 1
    num_devices: int = 0  # 0: all devices
    record: bool = False  # whether to record a video at the end
    wandb: wandb_tracker.Place | None = None  # where Weights & Biases shows it


class StopRequest:
    """A context in which a first SIGTERM or Ctrl-C only sets `received`, and says so.

    A second one acts as usual.
    """

    def __init__(self):
        self.received = False
        self._previous = {}

    def __enter__(self) -> 'StopRequest':
        names = (signal.SIGTERM, signal.SIGINT)
        self._previous = {name: signal.signal(name, self._note) for name in names}
        return self

    def __exit__(self, *unused) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def _note(self, *unused) -> None:
        self.received = True
        # Not `print`: the signal may have come amid another one.
        os.write(2, b'\nstopping after this round, and saving; once more stops at once, unsaved\n')
        self.__exit__()


def train(config: config_dict.ConfigDict, directory: Path, options: Options) -> bool:
    """Trains the run in `directory`, or continues it where it was stopped.

    Args:
      config: what the recipe returned, with all changes.
      directory: the workdir, which is created if it is missing.

    Returns:
      whether the run is complete; False if a signal ended it early.

    Raises:
      ValueError: the config does not fit together, or the directory was made with another one; or
        training ended early because its numbers are no longer finite.
    """
    return train_settings([(config, directory)], options)


def train_settings(
    settings: Sequence[tuple[config_dict.ConfigDict, Path]],
    options: Options,
    titles: Sequence[str] = (),
) -> bool:
    """Trains several settings in one program; see `train`.

    Args:
      settings: the config of each and its directory. The configs differ in numbers of the agent
        alone, and the directories have been trained up to the same round.
      options: the seeds are those of every setting.
      titles: what a tracker calls the settings, instead of the name in `options`.

    Raises:
      ValueError: as in `train`; or the settings cannot share a program.
    """
    config = settings[0][0]
    with contextlib.ExitStack() as stack:
        metas = []
        for each, directory in settings:
            sections.check_groups(each)
            if sharding.is_main():
                stack.callback(os.close, workdir.lock(directory))
            metas.append(_saved(each, directory))
        request = StopRequest()
        if jax.process_count() == 1:  # with several, JAX takes SIGTERM: sharding.stop_agreed
            stack.enter_context(request)
        if len({meta and meta.get('round') for meta in metas}) > 1:
            raise ValueError('--workdir: expected directories that are trained up to one round')
        numbers = together.numbers([each for each, _ in settings]) if settings[1:] else None
        run, evaluator, compiled = _make(config, options, metas[0] is None, numbers)
        for meta in metas:
            if meta is not None:  # before anything is written
                sections.check_same(meta['data'], run.fingerprint)
        places = []
        for at, ((each, directory), meta) in enumerate(zip(settings, metas, strict=True)):
            if titles and options.wandb:
                options = options._replace(wandb=options.wandb._replace(name=titles[at]))
            places.append(_open(stack, each, directory, options, run.spec, meta is None))
        work = execution.Trainer(places, run, evaluator, compiled, numbers)
        state, finished = work.run(request)
        for at, place in enumerate(places):
            if place.writer.num_rows:
                metrics.plot(place.directory)
            if finished and options.record and evaluator and jax.process_count() == 1:
                film, train = place.directory / 'video.mp4', work.of_setting(state.train, at)
                how = config.eval
                evaluation.record(film, evaluator, train, how.num_episodes, how.first_seed)
    return finished


def _saved(config: config_dict.ConfigDict, directory: Path) -> dict[str, Any] | None:
    """The facts of the newest checkpoint of a run; None for a new run, whose config is checked."""
    meta = checkpoint.latest_meta(directory / checkpoint.FOLDER)
    if meta is None:
        kinds.check_used(config)
    elif 'rows' not in meta:
        raise ValueError(
            f'--workdir: expected a run to continue, found a policy that jaxpolicy.save wrote, '
            f'in {directory}; config.begin.workdir begins a new run with its weights'
        )
    return meta


def _open(stack, config, directory: Path, options: Options, spec, fresh: bool) -> rounds.Place:
    """Records what is asked for in the directory, and opens the files that training writes."""
    writer = metrics.NullWriter()
    if sharding.is_main():
        _record(directory, config, options, fresh)
        describe(directory, config, spec)
        more = [wandb_tracker.Wandb(directory, options.wandb, fresh)] if options.wandb else []
        writer = metrics.open_writer(directory, more=more)
        stack.enter_context(contextlib.closing(writer))
    # This comes last: it cleans up in a thread, for which an error above would have to wait.
    keep = (config.checkpoint.keep_last, config.checkpoint.keep_best)
    scored_by = continuing.scored_by(config)
    manager = checkpoint.open_manager(directory / checkpoint.FOLDER, *keep, scored_by=scored_by)
    return rounds.Place(config, directory, stack.enter_context(manager), writer)


def _record(directory: Path, config, options: Options, fresh: bool) -> None:
    """Writes config.json, or checks the one that is there, and says what changes."""
    lines = workdir.prepare(
        directory,
        config,
        options.seed,
        options.num_seeds,
        upgrade=_upgrade,
        fresh=fresh,
        may_change=continuing.may_change(config),
    )
    if lines:
        print(continuing.describe(config, lines), file=sys.stderr)


def _make(config, options: Options, fresh: bool, numbers: together.Numbers | None):
    """The run, its evaluation (or None) and its compiled programs, on one device or on several.

    Args:
      numbers: what several settings differ in; they have one device.
    """
    run, mesh = kinds.make_run(config), None
    if run.is_sharded and numbers is None:
        mesh = sharding.make_mesh(options.num_devices)
        mesh = mesh if mesh.size > 1 else None
    elif options.num_devices > 1 or jax.process_count() > 1:
        raise ValueError(
            f'--num_devices: expected 1 for the loop {config.loop.name!r}, found '
            f'{options.num_devices} and {jax.process_count()} processes'
        )
    evaluator = None
    if config.eval.every and not config.env.name:
        raise ValueError(
            f'config.eval.every: expected 0 for a run without a simulator, found '
            f'{config.eval.every}'
        )
    if config.eval.every:
        agent = numbers and together.acting(config, run.spec, numbers)
        evaluator = evaluation.make(config, options.num_seeds, mesh, agent)
        sections.check_fit(config, run.spec, evaluator.spec)
    if numbers is not None:
        compiled = program.of_settings(run, numbers, options.seed, options.num_seeds)
        return run._replace(data=(numbers, run.data)), evaluator, compiled
    compiled = program.of_run(run, options.seed, options.num_seeds, mesh, fresh)
    if evaluator and not fresh:  # before the changed settings of a run are recorded
        sections.metric_names(
            config, evaluator.names(compiled.template.train, config.eval.num_episodes)
        )
    return run, evaluator, compiled


def _upgrade(record: dict[str, Any]) -> dict[str, Any]:
    from jaxpolicy.runs import upgrade  # only a run that is continued can be of an older version

    return upgrade.upgrade(record)


def describe(directory: Path, config: config_dict.ConfigDict, spec: types.Spec) -> None:
    """Writes spec.json: what the policy sees and does."""
    about: dict[str, Any] = {'env': config.env.name, 'agent': config.agent.name}
    if config.env.name:
        task, chosen = environment.task_of(config)
        about['episode_steps'] = chosen.episode_steps
        about['units'] = f'see the module {task.module.__name__}'
        about['control_hz'] = task.control_hz(chosen) if task.control_hz else None
    spec_file.write(directory, spec, about)
