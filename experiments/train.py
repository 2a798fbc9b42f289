"""Trains any agent: python -m experiments.train --config=configs/<task>/<agent>.py --workdir=DIR

The same command continues a run that was stopped, exactly. In the workdir: config.json, metrics
(metrics.jsonl, metrics.csv, tensorboard/), checkpoints/, curves.png and, at the end, video.mp4.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_dict

from experiments import build
from jaxpolicy.io import checkpoint, metrics, progress, video, workdir
from jaxpolicy.io import flags as config_flags

_CONFIG = config_flags.define_config(required=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of everything that is random in training.')
_VIDEO = flags.DEFINE_bool('video', True, 'Record an episode at the end.')


class StopRequest:
    """Turns SIGTERM and Ctrl-C into a flag: the run saves and ends after the current step."""

    def __init__(self):
        self.received = False

    def __enter__(self) -> 'StopRequest':
        names = (signal.SIGTERM, signal.SIGINT)
        self._previous = {name: signal.signal(name, self._note) for name in names}
        return self

    def __exit__(self, *_) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def _note(self, *_) -> None:
        self.received = True


def summarize(config: config_dict.ConfigDict, episodes: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the episodes of the metrics that the config names."""
    found = {name: build.choose('eval.metrics', episodes, name) for name in config.eval.metrics}
    found[config.eval.score] = build.choose('eval.score', episodes, config.eval.score)
    return {f'eval/{name}': float(np.mean(values)) for name, values in found.items()}


def train(config: config_dict.ConfigDict, directory: str | Path, seed: int) -> bool:
    """Trains, or continues, the run in `directory`; False if a signal ended it early.

    Raises:
      ValueError: a config that does not fit, or a directory made with another one.
    """
    directory = Path(directory)
    lock = workdir.lock(directory)
    workdir.prepare(directory, config, seed)
    run = build.make_run(config)
    evaluation = build.make_evaluation(config) if config.eval.every else None
    manager = checkpoint.open_manager(
        directory / 'checkpoints', config.checkpoint.keep_last, config.checkpoint.keep_best
    )
    with StopRequest() as stop, contextlib.closing(metrics.open_writer(directory)) as writer:
        finished = _loop(config, run, evaluation, manager, writer, stop, seed)
    manager.close()
    os.close(lock)
    return finished


def _loop(config, run, evaluation, manager, writer, stop, seed) -> bool:
    state, meta = _start(run, manager, writer, seed)
    step_fn = jax.jit(run.loop.step, donate_argnums=0)
    per_step = run.updates_per_step
    bar = progress.Progress(run.num_steps * per_step, meta['step'] * per_step, 'update')
    while meta['step'] < run.num_steps and not stop.received:
        begin = time.perf_counter()
        state, train_metrics = step_fn(state, run.data)
        row = {f'train/{name}': float(v) for name, v in jax.device_get(train_metrics).items()}
        step, meta['step'] = meta['step'] + 1, meta['step'] + 1
        meta['train_s'] += time.perf_counter() - begin
        last = step == run.num_steps
        score = None
        if evaluation and (last or step % config.eval.every == 0):
            begin = time.perf_counter()
            settings = (config.eval.num_episodes, config.eval.first_seed)
            means = summarize(config, evaluation.episodes(state.train, *settings))
            score = means[f'eval/{config.eval.score}']
            bar.evaluation(means)
            row |= means | {'time/eval_s': time.perf_counter() - begin}
        row |= {'time/train_s': meta['train_s']}
        writer.write(row, step * run.env_steps_per_step, step * per_step, step)
        bar.update(step * per_step)
        if last or score is not None or stop.received or step % config.checkpoint.every == 0:
            meta['rows'] = writer.num_rows
            checkpoint.save(manager, step, state, meta, score)
    bar.__exit__()
    return meta['step'] == run.num_steps


def _start(run, manager, writer, seed):
    """A new state, or the last one that was saved; metrics written after it are dropped."""
    step = checkpoint.latest_step(manager)
    key = jax.random.key(seed)
    if step is None:
        writer.truncate(0)
        return jax.jit(run.loop.init)(key), {'step': 0, 'train_s': 0.0, 'rows': 0}
    state, meta = checkpoint.restore(manager, step, jax.eval_shape(run.loop.init, key))
    writer.truncate(meta['rows'])
    logging.info('continuing after step %d', step)
    return state, meta


def main(_):
    config, directory = _CONFIG.value, Path(_WORKDIR.value)
    try:
        finished = train(config, directory, _SEED.value)
    except (ValueError, ImportError) as error:
        sys.exit(f'train: error: {error}')
    metrics.plot(directory)
    if not finished:
        sys.exit('stopped and saved; the same command continues')
    if _VIDEO.value and config.eval.every:
        evaluation = build.make_evaluation(config)
        manager = checkpoint.open_manager(directory / 'checkpoints', read_only=True)
        step = checkpoint.latest_step(manager)
        trained = checkpoint.restore_train(manager, step, evaluation.template)
        frames = evaluation.frames(trained, config.eval.first_seed)
        video.write_mp4(directory / 'video.mp4', frames, fps=10)
    print(f'done: {directory}')


if __name__ == '__main__':
    config_flags.run_main(main)
