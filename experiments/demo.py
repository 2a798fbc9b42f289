"""Three paradigms, one task: python -m experiments.demo --workdir=runs/demo

Collects demonstrations of the scripted expert on `detour`, trains BC (MSE), BC (mixture), a
diffusion policy and PPO with their recipes, evaluates each on fresh seeds and writes report.html.
A run that was stopped continues where it was.
"""

import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_dict

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import fingerprint, recipe_file, settings, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.loops import collect
from jaxpolicy.runs import demonstrators, launch

from .studies.demo import measure, report

FLAGS = flags.FLAGS

METHODS = {  # name: recipe
    'BC (MSE)': 'configs/detour/bc.py',
    'BC (mixture)': 'configs/detour/bc_mixture.py',
    'Diffusion': 'configs/detour/diffusion.py',
    'PPO': 'configs/detour/ppo.py',
}
FIRST_SEED = 300_000  # of the final evaluation; training's own uses other seeds


def load_config(name: str, demos: Path) -> config_dict.ConfigDict:
    """The recipe of a method, with the demonstrations and the overrides that fit it."""
    config = recipe_file.load(METHODS[name])
    if wrong := [text for text in FLAGS.override if '=' not in text]:
        raise ValueError(f'--override: expected key=value, found {wrong}')
    pairs = [pair.split('=', 1) for pair in FLAGS.override]
    known = settings.keys(config)
    everywhere = {key for path in METHODS.values() for key in settings.keys(recipe_file.load(path))}
    if unknown := [key for key, _ in pairs if key not in everywhere]:
        raise ValueError(f'--override: no recipe has {unknown}')
    settings.override(config, [(key, value) for key, value in pairs if key in known])
    if 'data' in config:
        config.data.path = str(demos)
    return config


def collect_once(demos: Path) -> None:
    """Collects the demonstrations, unless the file has those of the same task, seed and code.

    Raises:
      ValueError: the file has others.
    """
    changes = [text for text in FLAGS.override if text.startswith('env.')]
    expert = demonstrators.scripted('detour', changes)
    made = {'env': expert.info, 'num': FLAGS.num_demos, 'seed': FLAGS.seed}
    mark = fingerprint.of(made | {'code': fingerprint.of_code()})
    if not demos.exists():
        episodes = collect.collect(expert, FLAGS.num_demos, FLAGS.seed)[0]
        episodes_lib.save(demos, episodes._replace(info={**episodes.info, 'made_by': mark}))
    elif episodes_lib.load(demos).info.get('made_by') != mark:
        raise ValueError(
            f'--workdir: expected demonstrations of this task and by this code, found others in '
            f'{demos}; choose another --workdir or remove it'
        )


def main(_):
    root, seed, begin = Path(FLAGS.workdir), FLAGS.seed, time.perf_counter()
    root.mkdir(parents=True, exist_ok=True)
    demos = root / f'demos_{FLAGS.num_demos}_seed{seed}.npz'

    configs = {name: load_config(name, demos) for name in METHODS}  # mistakes show before work

    def say(text: str) -> None:
        print(f'[{time.perf_counter() - begin:4.0f} s] {text}', flush=True)

    if not demos.exists():
        say(f'collecting {FLAGS.num_demos} demonstrations')
    collect_once(demos)
    results = []
    for name, config in configs.items():
        directory = root / Path(METHODS[name]).stem
        say(f'training {name}')
        if not launch.train(config, directory, launch.Options(seed)):
            sys.exit('stopped and saved; the same command continues')
        say(f'evaluating {name} over {config.eval.num_episodes} episodes')
        results.append(measure.of_run(name, directory, FIRST_SEED))
        row = results[-1].summary
        say(
            f'{name}: success {row["success_max"]["mean"]:.3f}, '
            f'touches the pillar {row["contact_max"]["mean"]:.3f}, '
            f'{results[-1].latency_ms:.2f} ms per action'
        )
    elapsed_s = time.perf_counter() - begin
    report.write(root / 'report.html', results, demos, elapsed_s, workdir.versions())
    say(f'open {root / "report.html"}')


if __name__ == '__main__':
    config_flags.define_output('workdir', 'runs/demo', 'Directory of the demo.', folder=True)
    config_flags.define_seed('seed', 0, 'Of the demonstrations and of all training.')
    flags.DEFINE_integer('num_demos', 1000, 'Demonstrations to collect.', lower_bound=1)
    flags.DEFINE_multi_string('override', [], 'key=value for every recipe that has the key.')
    config_flags.run_main(main)
