"""Evaluates a trained run: python -m experiments.evaluate --workdir=DIR --num_episodes=1000

Prints mean and 95% confidence interval of each metric (Wilson's interval for zeros and ones,
Student's t otherwise) and writes into DIR/evaluation: episodes_<mode>.csv (a row per
episode), summary.json (also to --out) and video.mp4. `--override=agent.sampler=heun` and the like
try another sampler or environment with the same weights.
"""

import json
import sys
from pathlib import Path

from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import summary as summary_lib
from jaxpolicy.io import workdir
from jaxpolicy.runs import evaluation, saved, sections

FLAGS = flags.FLAGS
GROUPS = ('env', 'wrap', 'disturb', 'randomize', 'eval', 'execute')  # may differ from training


def show(config, mode: str, metrics: dict[str, dict[str, float]]) -> None:
    """Prints the metrics that the config names."""
    print(f'  {mode}:')
    for name in sections.metric_names(config, metrics):
        row = metrics[name]
        print(f'    {name:16s} {row["mean"]:8.3f}  [{row["low"]:.3f}, {row["high"]:.3f}]')


def main(_):
    directory, first_seed = Path(FLAGS.workdir), FLAGS.first_seed
    try:
        run = saved.open_run(directory, FLAGS.checkpoint, FLAGS.override, GROUPS)
        evaluator = evaluation.make(run.config, run.num_seeds, agent=run.agent)
        sections.check_fit(run.config, run.spec, evaluator.spec)
    except (ValueError, ImportError) as error:
        sys.exit(f'evaluate: error: {error}')
    config, num_seeds, trained, step = run.config, run.num_seeds, run.train, run.step
    out = directory / 'evaluation'
    outputs = [out / 'summary.json', *([Path(FLAGS.out)] if FLAGS.out else [])]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        mode: evaluator.episodes(trained, FLAGS.num_episodes, first_seed, mode)
        for mode in config.eval.modes
    }
    first, *others = config.eval.modes
    try:
        sections.metric_names(config, found[first])
    except ValueError as error:
        sys.exit(f'evaluate: error: {error}')
    summary = {
        'workdir': str(directory),
        'step': step,
        'first_seed': first_seed,
        'num_seeds': num_seeds,
        'override': FLAGS.override,
        'mode': first,
        'metrics': summary_lib.summarize(found[first]),
        'other_modes': {mode: summary_lib.summarize(found[mode]) for mode in others},
        'versions': workdir.versions(),
    }
    for mode in config.eval.modes:
        summary_lib.write_csv(out / f'episodes_{mode}.csv', first_seed, found[mode])
    for path in outputs:
        path.write_text(json.dumps(summary, indent=2) + '\n')
    over = 'episodes' if num_seeds == 1 else f'episodes, {num_seeds} seeds (the interval is theirs)'
    print(f'{FLAGS.num_episodes} {over}, checkpoint {step}: mean [95% confidence interval]')
    for mode in config.eval.modes:
        show(config, mode, summary_lib.summarize(found[mode]))
    if FLAGS.video:
        film, num_episodes = out / 'video.mp4', FLAGS.num_episodes
        evaluation.record(film, evaluator, trained, num_episodes, first_seed)
    print(f'written: {out}')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 200_000, 'Seed of the first episode.', lower_bound=0)
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    flags.DEFINE_multi_string('override', [], 'group.key=value: another environment, sampler, ...')
    flags.DEFINE_string('out', None, 'Also write the summary to this JSON file.')
    flags.DEFINE_bool('video', True, 'Record the first episode.')
    config_flags.run_main(main)
