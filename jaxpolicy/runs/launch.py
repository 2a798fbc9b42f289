"""Trains a run in its workdir: rounds, metrics, evaluations and checkpoints.

The device is given round i + 1 before the metrics of round i are read, and another thread writes
the checkpoints, so that neither keeps the device waiting. An evaluation does interrupt training,
because its episodes need the same device.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxpolicy import sharding, types
from jaxpolicy.io import checkpoint, metrics, progress, spec_file, summary, workdir
from jaxpolicy.runs import environment, evaluation, kinds, program, sections

_copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
COUNTS: tuple[str, ...] = ('updates', 'env_steps')  # what the metrics of a round count


class Options(NamedTuple):
    """What training is told besides the config."""

    seed: int = 0
    num_seeds: int = 1
    num_devices: int = 0  # 0: all devices
    record: bool = False  # whether to record a video at the end


class StopRequest:
    """A context in which a first SIGTERM or Ctrl-C only sets `received`; a second acts as usual."""

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
        self.__exit__()


def train(config: config_dict.ConfigDict, directory: Path, options: Options) -> bool:
    """Trains the run in `directory`, or continues it where it was stopped.

    Args:
      config: what the recipe returned, with all changes.
      directory: the workdir, which is created if it is missing.

    Returns:
      whether the run is complete; False if a signal ended it early.

    Raises:
      ValueError: the config does not fit together, or the directory was made with another one.
    """
    keep = (config.checkpoint.keep_last, config.checkpoint.keep_best)
    with contextlib.ExitStack() as stack:
        if sharding.is_main():
            stack.callback(os.close, workdir.lock(directory))
        request = StopRequest()
        if jax.process_count() == 1:  # with several, JAX takes SIGTERM: sharding.stop_agreed
            stack.enter_context(request)
        checkpoints = directory / 'checkpoints'
        if sharding.is_main():
            fresh = checkpoint.is_empty(checkpoints)
            workdir.prepare(
                directory, config, options.seed, options.num_seeds, upgrade=_upgrade, fresh=fresh
            )
        run, evaluator, compiled = _make(config, options)
        if sharding.is_main():
            describe(directory, config, run.spec)
        # This comes last: it cleans up in a thread, for which an error above would have to wait.
        manager = stack.enter_context(checkpoint.open_manager(checkpoints, *keep))
        writer = metrics.NullWriter()
        if sharding.is_main():
            writer = stack.enter_context(contextlib.closing(metrics.open_writer(directory)))
        trainer = Trainer(config, directory, run, evaluator, compiled, manager, writer)
        state, finished = trainer.run(request)
        if writer.num_rows:
            metrics.plot(directory)
        if finished and options.record and evaluator and jax.process_count() == 1:
            film, seed = directory / 'video.mp4', config.eval.first_seed
            evaluation.record(film, evaluator, state.train, seed)
    return finished


def _make(config, options: Options):
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
    return run, evaluator, program.of_run(run, options.seed, options.num_seeds, mesh)


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


class Trainer:
    """Trains one run in this process; its method `run` does all the work."""

    def __init__(self, config, directory, run: kinds.Run, evaluator, compiled, manager, writer):
        self._config, self._directory, self._run = config, directory, run
        self._evaluator, self._program = evaluator, compiled
        self._manager, self._writer = manager, writer
        self._pending: list[tuple[int, Any]] = []  # rounds whose metrics nobody has read yet
        # Counts up to the last row, as Python's integers, which do not overflow.
        self._done: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self._train_s = 0.0  # seconds of training, evaluations left out
        self._since = time.perf_counter()  # the time up to which `_train_s` counts

    def run(self, request) -> tuple[Any, bool]:
        """Runs rounds to the last one or a signal; returns the last state and whether all ran."""
        run, config = self._run, self._config
        state, index = self._start()
        bar = progress.Progress(run.num_rounds, index, 'round')
        self._since = time.perf_counter()
        with bar:
            while index < run.num_rounds:
                state, found = self._program.step(state, run.data)
                index += 1
                if run.keep:
                    run.keep(self._directory, state, index)
                self._pending.append((index, found))
                stopped = sharding.stop_agreed(request.received, index)
                last = stopped or index == run.num_rounds
                evaluate = index == run.num_rounds or _due(index, config.eval.every)
                if evaluate or last or _due(index, config.checkpoint.every):
                    self._save(state, index, evaluate, bar)
                else:
                    self._write(keep=1)  # the device still computes the round that is kept
                bar.update(index, self._done)
                if stopped:
                    break
        self._manager.wait_until_finished()
        return state, index == run.num_rounds

    def _start(self):
        """The state to begin with and its round: a new state, or the last one that was saved.

        Rows of metrics that were written after the saved state are dropped.
        """
        index = checkpoint.latest_step(self._manager)
        if index is None:
            self._writer.truncate(0)
            return self._program.init(), 0
        state, meta = checkpoint.restore(self._manager, index, self._program.template)
        sections.check_same(meta['data'], self._run.fingerprint)
        self._writer.truncate(meta['rows'])
        self._train_s = meta['train_s']
        # Runs of older versions did not save the counts; their last row has them.
        last = self._writer.last_row() if 'updates' not in meta else meta
        self._done = {name: int(last[name]) for name in COUNTS}
        print(f'continuing after update {self._done["updates"]}', file=sys.stderr)
        return state, index

    def _write(self, keep: int = 0, extra: dict | None = None) -> None:
        """Writes the rows of all pending rounds but the last `keep`; `extra` joins the last row."""
        while len(self._pending) > keep:
            index, found = self._pending.pop(0)
            row = jax.device_get(found)
            for name in COUNTS:  # the same for all seeds
                self._done[name] += int(np.asarray(row.pop(name)).reshape(-1)[0])
            row = {f'train/{name}': x for name, x in row.items()}
            self._count_time()
            row['time/train_s'] = self._train_s
            row |= extra if extra and not self._pending else {}
            self._writer.write(summary.over_seeds(row), index, **self._done)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._train_s, self._since = self._train_s + now - self._since, now

    def _save(self, state, index: int, evaluate: bool, bar) -> None:
        """Evaluates if asked to, writes every row, and has a copy of the state saved."""
        score = None
        extra: dict[str, Any] = {}
        jax.block_until_ready(state.train.step)
        self._count_time()
        if evaluate and self._evaluator:
            begin = time.perf_counter()
            extra = evaluation.means(self._config, self._evaluator, state.train)
            score = float(extra[f'eval/{self._config.eval.score}'].mean())
            extra['time/eval_s'] = time.perf_counter() - begin
            self._since = time.perf_counter()
            bar.evaluation({k: v for k, v in summary.over_seeds(extra).items() if k in extra})
        self._write(extra=extra)
        meta = self._done | {'round': index, 'train_s': self._train_s}
        meta |= {'rows': self._writer.num_rows, 'data': self._run.fingerprint}
        # A copy is saved, as the next round reuses the state's memory while saving goes on.
        checkpoint.save(self._manager, index, _copy(state), meta, score)


def _copy(state):
    """A copy of the state; the memory is copied apart, as it may lie on another device."""
    rest = _copy_tree(state.replace(memory=()))
    return rest.replace(memory=_copy_tree(state.memory))


def _due(index: int, every: int) -> bool:
    return bool(every) and index % every == 0
