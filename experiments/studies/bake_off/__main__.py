"""Compares objectives, samplers and numbers of steps: score with its interval against latency.

  python -m experiments.studies.bake_off --config=configs/detour/diffusion.py \
      --config.data.path=data/detour.npz --workdir=runs/bake_off

Every method is trained with the recipe's network, horizons, optimiser and number of epochs; only
what `methods.METHODS` names differs. Then its last weights act in each of the method's ways, over
episodes that training never saw, and every way is timed. The workdir gets a run for each method,
with its rows in bake_off.json (one for each way of acting), and bake_off.md and bake_off.png of all
methods. What is there already is not done again, so that several processes can share the work: each
takes some `--methods` with `--measure=score`, and after them one alone does `--measure=latency`. A
row counts as there if its episodes, weights, config and code are those of now, and its latency if
the machine is as well.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import flags

from jaxpolicy import ranges
from jaxpolicy.io import checkpoint, latency, metrics, summary, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import evaluation, launch, saved, sections, upgrade

from . import methods, report

FLAGS = flags.FLAGS
MEASURES = ('score', 'latency')


def choose(flag: str, known: Iterable[str], names: Iterable[str]) -> None:
    """Raises a ValueError that names the flag where one of the names is unknown."""
    if not names:
        raise ValueError(f'--{flag}: expected some of {list(known)}, found none')
    for name in names:
        if name not in known:
            raise ValueError(f'--{flag}: expected some of {list(known)}, found {name!r}')


def score(opened: saved.Saved) -> dict[str, Any]:
    """How well a trained method acts."""
    config = opened.config
    evaluator = evaluation.make(config, opened.num_seeds, agent=opened.agent)
    mode = config.eval.modes[0]
    found = evaluator.episodes(opened.train, FLAGS.num_episodes, FLAGS.first_seed, mode)
    name = sections.choose('eval.score', found, config.eval.score)
    means = summary.summarize(found)[name]
    return {
        'score': means['mean'],
        'low': means['low'],
        'high': means['high'],
        'num_episodes': FLAGS.num_episodes,
        'broken_episodes': summary.num_broken(found),
        'evaluations': methods.evaluations(config.agent),
        'train_s': metrics.read(opened.directory)[-1]['time/train_s'],
    }


def time_it(opened: saved.Saved) -> dict[str, float]:
    """How long a plan for one robot takes."""
    timed = latency.of_agent(opened.agent, opened.config, opened.spec, opened.first)
    return {'p50_ms': timed.p50_ms, 'p99_ms': timed.p99_ms, 'compile_s': timed.compile_s}


def run(name: str, root: Path) -> list[dict[str, Any]]:
    """Trains a method and measures every way in which it acts, as far as --measure asks."""
    config, directory = methods.config(FLAGS.config, name, root), root / name
    if 'score' in FLAGS.measure:
        options = launch.Options(FLAGS.seed, FLAGS.num_seeds)
        if not launch.train(config, directory, options):
            sys.exit('stopped and saved; the same command continues')
    elif (directory / workdir.CONFIG_FILE).exists():  # as `train` does, it refuses another config
        seeds = (FLAGS.seed, FLAGS.num_seeds)
        workdir.prepare(directory, config, *seeds, upgrade=upgrade.upgrade)
    rows = methods.Rows(directory)
    if checkpoint.is_empty(directory / checkpoint.FOLDER):
        return []  # nothing is trained yet that could be timed
    for acting in methods.ACTING[methods.METHODS[name][0]]:
        changes = [f'agent.{key}={value}' for key, value in acting.items()]
        opened = saved.open_run(directory, 'latest', changes)
        row = rows.of(name, acting, *methods.marks(opened, FLAGS.num_episodes, FLAGS.first_seed))
        if 'score' in FLAGS.measure and 'score' not in row:
            row.update(score(opened))
            print(report.line(row), flush=True)
            rows.save()
        if 'latency' in FLAGS.measure and 'score' in row and 'p50_ms' not in row:
            row.update(time_it(opened))
            rows.save()
    return rows.all


def main(_):
    root = Path(FLAGS.workdir)
    choose('methods', methods.METHODS, FLAGS.methods)
    choose('measure', MEASURES, FLAGS.measure)
    ranges.check_seeds('--first_seed', FLAGS.first_seed, FLAGS.num_episodes)
    rows = [row for name in FLAGS.methods for row in run(name, root)]
    rows = [row for row in rows if 'score' in row and 'p50_ms' in row]
    if rows:
        report.write(root, rows, FLAGS.config)
        print(f'written: {root / "bake_off.md"}, bake_off.png')
    else:
        print('nothing has both a score and a latency yet, so there is no table')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    config_flags.define_output(
        'workdir', None, 'Directory of all runs.', folder=True, required=True
    )
    flags.DEFINE_list(
        'methods', list(methods.METHODS), 'Which methods; a teacher before who learns of it.'
    )
    flags.DEFINE_list('measure', list(MEASURES), 'score (trains first), latency, or both.')
    config_flags.define_seed('seed', 0, 'Seed of all training.')
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together, from --seed on.', lower_bound=1)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes for each row.', lower_bound=1)
    config_flags.define_seed('first_seed', 400_000, 'Seed of the first episode.')
    config_flags.run_main(main)
