"""Trains a run in its workdir.

Here the workdir is locked and checked, and the run, its evaluation and its programs are made of the
config. `execution` then does the training.
"""

import contextlib
import os
import signal
import sys
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
    sections,
)


class Options(NamedTuple):
    """What training is told besides the config."""

    seed: int = 0
    num_seeds: int = 1
    num_devices: int = 0  # 0: all devices
    record: bool = False  # whether to record a video at the end
    wandb: wandb_tracker.Place | None = None  # where Weights & Biases shows the run


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
    sections.check_groups(config)
    keep = (config.checkpoint.keep_last, config.checkpoint.keep_best)
    scored_by = continuing.scored_by(config)
    with contextlib.ExitStack() as stack:
        if sharding.is_main():
            stack.callback(os.close, workdir.lock(directory))
        request = StopRequest()
        if jax.process_count() == 1:  # with several, JAX takes SIGTERM: sharding.stop_agreed
            stack.enter_context(request)
        checkpoints = directory / 'checkpoints'
        meta = checkpoint.latest_meta(checkpoints)
        fresh = meta is None
        if meta is None:
            kinds.check_used(config)
        elif 'rows' not in meta:
            raise ValueError(
                f'--workdir: expected a run to continue, found a policy that jaxpolicy.save wrote, '
                f'in {directory}; config.begin.workdir begins a new run with its weights'
            )
        run, evaluator, compiled = _make(config, options, fresh)
        if meta is not None:  # before anything is written
            sections.check_same(meta['data'], run.fingerprint)
        if sharding.is_main():
            _record(directory, config, options, fresh)
            describe(directory, config, run.spec)
        # This comes last: it cleans up in a thread, for which an error above would have to wait.
        manager = stack.enter_context(
            checkpoint.open_manager(checkpoints, *keep, scored_by=scored_by)
        )
        writer = metrics.NullWriter()
        if sharding.is_main():
            place = options.wandb
            more = [wandb_tracker.Wandb(directory, place, fresh)] if place else []
            writer = metrics.open_writer(directory, more=more)
            stack.enter_context(contextlib.closing(writer))
        work = execution.Trainer(config, directory, run, evaluator, compiled, manager, writer)
        state, finished = work.run(request)
        if writer.num_rows:
            metrics.plot(directory)
        if finished and options.record and evaluator and jax.process_count() == 1:
            film, episodes = directory / 'video.mp4', config.eval
            evaluation.record(
                film, evaluator, state.train, episodes.num_episodes, episodes.first_seed
            )
    return finished


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


def _make(config, options: Options, fresh: bool):
    """The run, its evaluation (or None) and its compiled programs, on one device or on several."""
    run, mesh = kinds.make_run(config), None
    if run.is_sharded:
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
        evaluator = evaluation.make(config, options.num_seeds, mesh)
        sections.check_fit(config, run.spec, evaluator.spec)
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
