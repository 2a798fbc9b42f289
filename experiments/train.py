"""Trains any agent: python -m experiments.train --config=configs/<task>/<agent>.py --workdir=DIR

The same command continues a run that was stopped, exactly. In the workdir: config.json, metrics
(metrics.jsonl, metrics.csv, tensorboard/), checkpoints/, curves.png and, at the end, video.mp4.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import config_dict

from experiments import build
from jaxpolicy.io import checkpoint, metrics, progress, stop, workdir
from jaxpolicy.io import flags as config_flags

FLAGS = flags.FLAGS


def train(config: config_dict.ConfigDict, directory: Path, seed: int, record: bool) -> bool:
    """Trains, or continues, the run in `directory`; False if a signal ended it early.

    Raises:
      ValueError: a config that does not fit, or a directory made with another one.
    """
    keep = (config.checkpoint.keep_last, config.checkpoint.keep_best)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, workdir.lock(directory))
        request = stack.enter_context(stop.StopRequest())
        manager = stack.enter_context(checkpoint.open_manager(directory / 'checkpoints', *keep))
        workdir.prepare(directory, config, seed, fresh=checkpoint.latest_step(manager) is None)
        run = build.make_run(config)
        evaluation = build.make_evaluation(config) if config.eval.every else None
        if evaluation:
            build.check_fit(config, run.spec, evaluation.spec)
        writer = stack.enter_context(contextlib.closing(metrics.open_writer(directory)))
        state, finished = _loop(config, run, evaluation, manager, writer, request, seed)
        if writer.num_rows:
            metrics.plot(directory)
        if finished and record and evaluation:
            build.record(directory / 'video.mp4', evaluation, state.train, config.eval.first_seed)
    return finished


def _loop(config, run, evaluation, manager, writer, request, seed):
    """Steps until the end or a signal; returns the last state and whether it is the end."""
    state, meta = _start(run, manager, writer, seed)
    step_fn = jax.jit(run.loop.step, donate_argnums=0)
    per_step, step = run.updates_per_step, meta['step']
    bar = progress.Progress(run.num_steps * per_step, step * per_step, 'update')
    with bar:
        while step < run.num_steps and not request.received:
            begin = time.perf_counter()
            state, train_metrics = step_fn(state, run.data)
            row = {f'train/{name}': float(v) for name, v in jax.device_get(train_metrics).items()}
            step += 1
            meta = {'step': step, 'train_s': meta['train_s'] + time.perf_counter() - begin}
            row['time/train_s'], score, last = meta['train_s'], None, step == run.num_steps
            if evaluation and (last or step % config.eval.every == 0):
                means = evaluate(config, evaluation, state.train)
                score = means[f'eval/{config.eval.score}']
                row |= means
                bar.evaluation(means)
            writer.write(row, step * run.env_steps_per_step, step * per_step, step)
            bar.update(step * per_step)
            meta |= {'rows': writer.num_rows, 'data': run.fingerprint}
            every = config.checkpoint.every
            if last or score is not None or (every and step % every == 0):
                checkpoint.save(manager, step, state, meta, score)
    if step and checkpoint.latest_step(manager) != step:  # stopped by a signal
        checkpoint.save(manager, step, state, meta)
    return state, step == run.num_steps


def _start(run, manager, writer, seed):
    """A new state, or the last one that was saved; metrics written after it are dropped."""
    step = checkpoint.latest_step(manager)
    key = jax.random.key(seed)
    if step is None:
        writer.truncate(0)
        return jax.jit(run.loop.init)(key), {'step': 0, 'train_s': 0.0}
    state, meta = checkpoint.restore(manager, step, jax.eval_shape(run.loop.init, key))
    build.check_data(run, meta['data'])
    writer.truncate(meta['rows'])
    print(f'continuing after update {step * run.updates_per_step}', file=sys.stderr)
    return state, meta


def evaluate(config, evaluation, trained) -> dict[str, float]:
    """Means over episodes of the metrics that the config names, and the seconds it took."""
    begin = time.perf_counter()
    episodes = evaluation.episodes(trained, config.eval.num_episodes, config.eval.first_seed)
    names = dict.fromkeys((config.eval.score, *config.eval.metrics))
    found = {name: build.choose('eval.metrics', episodes, name) for name in names}
    means = {f'eval/{name}': float(np.mean(values)) for name, values in found.items()}
    return means | {'time/eval_s': time.perf_counter() - begin}


def main(_):
    directory = Path(FLAGS.workdir)
    try:
        finished = train(FLAGS.config, directory, FLAGS.seed, FLAGS.video)
    except (ValueError, ImportError) as error:
        sys.exit(f'train: error: {error}')
    if not finished:
        sys.exit(f'stopped and saved; the same command continues {directory}')
    print(f'done: {directory}')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
    flags.DEFINE_integer('seed', 0, 'Seed of everything that is random in training.')
    flags.DEFINE_bool('video', True, 'Record an episode at the end.')
    config_flags.run_main(main)
