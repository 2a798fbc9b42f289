"""Objective x sampler x steps in one harness: score with its interval against latency.

  python -m experiments.studies.bake_off --config=configs/detour/diffusion.py \
      --config.data.path=data/detour.npz --workdir=runs/bake_off

Every method is trained with the recipe's network, horizons, optimiser and number of epochs; only
what `bake_off_methods.METHODS` names differs. Then its last weights act in each of the method's
ways, over episodes that training never saw, and every way is timed. In the workdir: a run for each
method with its rows in bake_off.json (one for each way of acting), bake_off.md and bake_off.png of
all. What is there already is not done again, so that several processes can share the work: some
`--methods` each, with `--measure=score`, and after them one with `--measure=latency` alone.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_dict

from experiments import train
from experiments.studies.bake_off import methods
from experiments.studies.bake_off import report as bake_off_report
from jaxpolicy.io import checkpoint, latency, metrics
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import summary as summary_lib
from jaxpolicy.runs import build, evaluation
from jaxpolicy.runs import saved as trained_run

FLAGS = flags.FLAGS


def score(directory: Path, config: config_dict.ConfigDict) -> dict[str, Any]:
    """How well a trained method acts."""
    evaluator = evaluation.make(config, FLAGS.num_seeds)
    manager, step = trained_run.open_checkpoint(directory, 'latest')
    trained = checkpoint.restore_train(manager, step, evaluator.template)
    found = evaluator.episodes(trained, FLAGS.num_episodes, FLAGS.first_seed, 'deterministic')
    means = summary_lib.summarize(found)[config.eval.score]
    return {
        'score': means['mean'],
        'low': means['low'],
        'high': means['high'],
        'num_episodes': FLAGS.num_episodes,
        'evaluations': methods.evaluations(config.agent),
        'train_s': metrics.read(directory)[-1]['time/train_s'],
    }


def time_it(config: config_dict.ConfigDict) -> dict[str, float]:
    """How long a plan for one robot takes; the weights do not matter."""
    spec = evaluation.make(config).spec
    agent = build.make_agent(config, spec)
    timed = latency.of_agent(agent, config, spec, jax.jit(agent.init)(jax.random.key(0)))
    return {'p50_ms': timed.p50_ms, 'p99_ms': timed.p99_ms, 'compile_s': timed.compile_s}


def run(name: str, root: Path) -> list[dict[str, Any]]:
    """Trains a method and measures every way in which it acts, as far as --measure asks."""
    config, directory = methods.config(FLAGS.config, name, root), root / name
    if 'score' in FLAGS.measure:
        options = train.Options(FLAGS.seed, FLAGS.num_seeds)
        if not train.train(config, directory, options):
            sys.exit('stopped and saved; the same command continues')
    rows = methods.Rows(directory)
    for acting in methods.ACTING[methods.METHODS[name][0]]:
        row, changed = rows.of(name, acting), copy.deepcopy(config)
        changed.agent.update(acting)
        if 'score' in FLAGS.measure and 'score' not in row:
            row.update(score(directory, changed))
            print(bake_off_report.line(row), flush=True)
            rows.save()
        if 'latency' in FLAGS.measure and 'score' in row and 'p50_ms' not in row:
            row.update(time_it(changed))
            rows.save()
    return rows.all


def main(_):
    root = Path(FLAGS.workdir)
    try:
        names = [build.choose('methods', methods.METHODS, name) and name for name in FLAGS.methods]
        for what in FLAGS.measure:
            build.choose('measure', dict.fromkeys(('score', 'latency')), what)
        rows = [row for name in names for row in run(name, root)]
    except (ValueError, ImportError) as error:
        sys.exit(f'bake_off: error: {error}')
    rows = [row for row in rows if 'score' in row and 'p50_ms' in row]
    if rows:
        bake_off_report.write(root, rows, FLAGS.config)
        print(f'written: {root / "bake_off.md"}, bake_off.png')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('workdir', None, 'Directory of all runs.', required=True)
    flags.DEFINE_list(
        'methods', list(methods.METHODS), 'Which methods; a teacher before who learns of it.'
    )
    flags.DEFINE_list('measure', ['score', 'latency'], 'score (trains first), latency, or both.')
    flags.DEFINE_integer('seed', 0, 'Seed of all training.', lower_bound=0)
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together, from --seed on.', lower_bound=1)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes for each row.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 400_000, 'Seed of the first episode.')
    config_flags.run_main(main)
