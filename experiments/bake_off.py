"""Objective x sampler x steps in one harness: score with its interval against latency.

  python -m experiments.bake_off --config=configs/detour/diffusion.py \
      --config.data.path=data/detour.npz --workdir=runs/bake_off

Every method is trained with the recipe's network, horizons, optimiser and number of epochs; only
what `bake_off_methods.METHODS` names differs. Then its last weights act in each of the method's
ways, over episodes that training never saw. In the workdir: a run for each method, bake_off.json (a
row for each method and way of acting), bake_off.md and bake_off.png. What is there already is not
done again.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from experiments import bake_off_methods as methods
from experiments import bake_off_report, build, evaluation, latency, train
from experiments import summary as summary_lib
from experiments import trained as trained_run
from jaxpolicy.io import checkpoint, metrics
from jaxpolicy.io import flags as config_flags

FLAGS = flags.FLAGS


def measure(name: str, directory: Path, config, acting: dict[str, Any]) -> dict[str, Any]:
    """One row: a trained method, acting in one way."""
    config = copy.deepcopy(config)
    config.agent.update(acting)
    evaluator = evaluation.make(config, FLAGS.num_seeds)
    manager, step = trained_run.open_checkpoint(directory, 'latest')
    trained = checkpoint.restore_train(manager, step, evaluator.template)
    found = evaluator.episodes(trained, FLAGS.num_episodes, FLAGS.first_seed, 'deterministic')
    score = summary_lib.summarize(found)[config.eval.score]
    agent = build.make_agent(config, evaluator.spec)
    timed = latency.of_agent(
        agent, config, evaluator.spec, evaluation.first(trained, FLAGS.num_seeds)
    )
    return {
        'method': name,
        **acting,
        'evaluations': methods.evaluations(config.agent),
        'score': score['mean'],
        'low': score['low'],
        'high': score['high'],
        'p50_ms': timed.p50_ms,
        'compile_s': timed.compile_s,
        'train_s': metrics.read(directory)[-1]['time/train_s'],
    }


def main(_):
    root = Path(FLAGS.workdir)
    path = root / 'bake_off.json'
    try:
        names = [build.choose('methods', methods.METHODS, name) and name for name in FLAGS.methods]
        rows = json.loads(path.read_text()) if path.exists() else []
        for name in names:
            config, directory = methods.config(FLAGS.config, name, root), root / name
            options = train.Options(FLAGS.seed, FLAGS.num_seeds)
            if not train.train(config, directory, options):
                sys.exit('stopped and saved; the same command continues')
            for acting in methods.ACTING[methods.METHODS[name][0]]:
                if any(row['method'] == name and acting.items() <= row.items() for row in rows):
                    continue
                rows.append(measure(name, directory, config, acting))
                print(bake_off_report.line(rows[-1]), flush=True)
                path.write_text(json.dumps(rows, indent=1) + '\n')
    except (ValueError, ImportError) as error:
        sys.exit(f'bake_off: error: {error}')
    bake_off_report.write(root, rows, FLAGS.config, FLAGS.num_episodes)
    print(f'written: {root / "bake_off.md"}, bake_off.png, bake_off.json')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('workdir', None, 'Directory of all runs.', required=True)
    flags.DEFINE_list(
        'methods', list(methods.METHODS), 'Which methods; a teacher before who learns of it.'
    )
    flags.DEFINE_integer('seed', 0, 'Seed of all training.', lower_bound=0)
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together, from --seed on.', lower_bound=1)
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes for each row.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 400_000, 'Seed of the first episode.')
    config_flags.run_main(main)
