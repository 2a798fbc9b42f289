"""Evaluates a trained run: python -m experiments.evaluate --workdir=DIR --num_episodes=1000

Prints mean and 95% confidence interval of each metric (Wilson's interval for zeros and ones,
Student's t otherwise) and writes into DIR/evaluation: episodes.csv (a row per episode),
summary.json (also to --out) and video.mp4.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from absl import flags

from experiments import build
from jaxpolicy.io import checkpoint, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.loops import evaluate

FLAGS = flags.FLAGS


def open_checkpoint(directory: Path, which: str):
    """The manager of a run's checkpoints and the step that `which` names.

    Raises:
      ValueError: there is no such checkpoint.
    """
    manager = checkpoint.open_manager(directory / 'checkpoints', read_only=True)
    named = {'best': checkpoint.best_step, 'latest': checkpoint.latest_step}
    if which in named:
        step = named[which](manager)
        step = checkpoint.latest_step(manager) if step is None else step
    else:
        step = int(which) if which.isdigit() else None
    if step is None or step not in manager.all_steps():
        raise ValueError(
            f"--checkpoint: expected 'best', 'latest' or one of {sorted(manager.all_steps())} "
            f'in {directory}, found {which!r}'
        )
    return manager, step


def summarize(episodes: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean, bounds of its 95% confidence interval and number of episodes, by metric."""
    summary = {}
    for name, values in episodes.items():
        binary = bool(np.isin(values, (0.0, 1.0)).all())
        mean, low, high = evaluate.confidence_interval(values, 'binary' if binary else 'real')
        summary[name] = {'mean': mean, 'low': low, 'high': high, 'n': len(values)}
    return summary


def write_csv(path: Path, first_seed: int, episodes: dict[str, np.ndarray]) -> None:
    """A row per episode: its seed and its metrics."""
    with path.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['seed', *episodes])
        for i, row in enumerate(zip(*episodes.values(), strict=True)):
            table.writerow([first_seed + i, *(f'{float(value):.9g}' for value in row)])


def main(_):
    directory, first_seed = Path(FLAGS.workdir), FLAGS.first_seed
    try:
        config = workdir.load_config(directory)
        if FLAGS.stochastic:
            with config.unlocked():
                config.eval.deterministic = False
        evaluation = build.make_evaluation(config)
        manager, step = open_checkpoint(directory, FLAGS.checkpoint)
        trained = checkpoint.restore_train(manager, step, evaluation.template)
    except (ValueError, ImportError) as error:
        sys.exit(f'evaluate: error: {error}')
    out = directory / 'evaluation'
    outputs = [out / 'summary.json', *([Path(FLAGS.out)] if FLAGS.out else [])]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    episodes = evaluation.episodes(trained, FLAGS.num_episodes, first_seed)
    summary = {
        'workdir': str(directory),
        'step': step,
        'first_seed': first_seed,
        'deterministic': config.eval.deterministic,
        'metrics': summarize(episodes),
        'versions': workdir.versions(),
    }
    write_csv(out / 'episodes.csv', first_seed, episodes)
    for path in outputs:
        path.write_text(json.dumps(summary, indent=2) + '\n')
    print(f'{FLAGS.num_episodes} episodes, checkpoint {step}: mean [95% confidence interval]')
    for name in dict.fromkeys((config.eval.score, *config.eval.metrics)):
        row = build.choose('eval.metrics', summary['metrics'], name)
        print(f'  {name:16s} {row["mean"]:8.3f}  [{row["low"]:.3f}, {row["high"]:.3f}]')
    if FLAGS.video:
        build.record(out / 'video.mp4', evaluation, trained, first_seed)
    print(f'written: {out}')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 200_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    flags.DEFINE_bool('stochastic', False, 'Sample actions, where the config does not.')
    flags.DEFINE_string('out', None, 'Also write the summary to this JSON file.')
    flags.DEFINE_bool('video', True, 'Record the first episode.')
    config_flags.run_main(main)
