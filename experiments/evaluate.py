"""Evaluates a trained run: python -m experiments.evaluate --workdir=DIR --num_episodes=1000

Prints mean and 95% confidence interval of each metric (Wilson's interval for zeros and ones,
Student's t otherwise) and writes into DIR/evaluation: episodes_<mode>.csv (a row per episode),
summary.json (also to --out; its `means` are those of each seed) and video.mp4.
`--override=agent.sampler=heun` and the like try another sampler or environment with the same
weights; `--name=heun` writes into DIR/heun.

The same evaluation again replaces its files. One with another --checkpoint, --num_episodes,
--first_seed or --override needs another --name. Broken episodes, in which a number was not finite,
are counted in summary.json as `broken_episodes` and left out of the metrics.
"""

import time
from pathlib import Path

from absl import flags

from jaxpolicy import ranges
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import results, workdir
from jaxpolicy.io import summary as summary_lib
from jaxpolicy.runs import evaluation, saved, sections

FLAGS = flags.FLAGS
DEFINITION = ('checkpoint', 'num_episodes', 'first_seed', 'override')  # flags that change results


def show(config, mode: str, episodes) -> None:
    """Prints the metrics that the config names."""
    print(f'  {mode}:')
    if message := summary_lib.all_broke(episodes, mode):
        print(f'    {message}')
        return
    metrics = summary_lib.summarize(episodes)
    for name in sections.metric_names(config, metrics):
        row = metrics[name]
        print(f'    {name:16s} {row["mean"]:8.3f}  [{row["low"]:.3f}, {row["high"]:.3f}]')
    if count := summary_lib.num_broken(episodes):
        print(f'    {"broken_episodes":16s} {count:8d}  (left out of the other numbers)')


def main(_):
    directory, first_seed = Path(FLAGS.workdir), FLAGS.first_seed
    definition = {name: FLAGS[name].value for name in DEFINITION}
    ranges.check_seeds('--first_seed', first_seed, FLAGS.num_episodes)
    run = saved.open_run(directory, FLAGS.checkpoint, FLAGS.override, saved.EVALUATION)
    out = results.folder(directory, FLAGS.name, definition)
    evaluator = evaluation.make(run.config, run.num_seeds, agent=run.agent)
    sections.check_fit(run.config, run.spec, evaluator.spec)
    sections.metric_names(run.config, evaluator.names(run.train, FLAGS.num_episodes))
    outputs = [out / results.SUMMARY, *([Path(FLAGS.out)] if FLAGS.out else [])]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    config, num_seeds, modes = run.config, run.num_seeds, run.config.eval.modes
    begin = time.monotonic()
    found = {
        mode: evaluator.episodes(run.train, FLAGS.num_episodes, first_seed, mode) for mode in modes
    }
    eval_s, (first, *others) = time.monotonic() - begin, modes
    summary = {
        'workdir': str(directory),
        'step': run.step,
        **definition,
        'num_seeds': num_seeds,
        'mode': first,
        'broken_episodes': {mode: summary_lib.num_broken(found[mode]) for mode in modes},
        'metrics': summary_lib.summarize(found[first]),
        'means': summary_lib.means_of_seeds(found[first]),
        'other_modes': {mode: summary_lib.summarize(found[mode]) for mode in others},
        'eval_s': eval_s,
        'versions': workdir.versions(),
    }
    for mode in modes:
        summary_lib.write_csv(out / f'episodes_{mode}.csv', first_seed, found[mode])
    for path in outputs:
        workdir.write_json(path, summary)
    over = 'episodes' if num_seeds == 1 else f'episodes, {num_seeds} seeds (the interval is theirs)'
    print(f'{FLAGS.num_episodes} {over}, checkpoint {run.step}: mean [95% confidence interval]')
    for mode in modes:
        show(config, mode, found[mode])
    if FLAGS.video:
        film, num_episodes = out / 'video.mp4', FLAGS.num_episodes
        evaluation.record(film, evaluator, run.train, num_episodes, first_seed)
    print(f'written: {out}')


if __name__ == '__main__':
    run_of = {'folder': True, 'written': True, 'required': True}
    config_flags.define_input('workdir', None, 'Directory of the run.', **run_of)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes.', lower_bound=1)
    config_flags.define_seed('first_seed', 200_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    flags.DEFINE_multi_string('override', [], 'group.key=value: another environment, sampler, ...')
    flags.DEFINE_string('name', 'evaluation', 'Folder of the results, in the workdir.')
    config_flags.define_output('out', None, 'Also write the summary to this JSON file.')
    flags.DEFINE_bool('video', True, 'Record the first episode.')
    config_flags.run_main(main)
