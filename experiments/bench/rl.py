"""Speed of on-policy training: python -m experiments.bench.rl --env=reach --num_envs=2048

It reports the seconds of compilation, the env steps a second of the bare environment and of
training, the learner's share of an iteration, the peak memory, and the floor: the time of the bare
environment plus the learner's matrix products at the rate measured here. `--peer=brax` trains
brax's PPO on the same environment, sizes and hyper-parameters, round by round in turns with ours.
`--threshold=success_final:0.9` trains until both have reached it; the time of its evaluations does
not count. `--out=FILE` writes JSON.

A recipe of the loop off_policy has its own figures and peer, `--peer=sb3`: see replay.py.

Times are medians. `compile_s` goes from nothing to the end of the second round, less two rounds;
nothing comes from a cache on disk. `seconds_to_threshold` includes it.
"""

import math
from typing import Any

import jax
from absl import flags
from ml_collections import config_dict

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths
from jaxpolicy.runs import kinds, learner, recipe, sections

from . import figures, race, replay

FLAGS = flags.FLAGS

# Short flags, and the group of the config in which each changes the field of its name.
SHORT = {
    'num_envs': 'loop',
    'rollout_length': 'loop',
    'iterations_per_round': 'loop',
    'num_env_steps': 'loop',
    'num_epochs': 'agent',
    'num_minibatches': 'agent',
    'learning_rate': 'agent',
    'gamma': 'agent',
}


def make_config(config, env: str | None, changes: dict[str, Any]) -> config_dict.ConfigDict:
    """The given config or the library's defaults for an env, with what the short flags change."""
    made: Any = config or recipe.on_policy('ppo', env or 'reach')
    if env and made.env.name != env:
        raise ValueError(f'--env: expected {made.env.name!r} as in --config, found {env!r}')
    for name, value in changes.items():
        if name not in made[SHORT[name]]:
            raise ValueError(
                f'--{name}: expected a recipe with {SHORT[name]}.{name}, found none of '
                f'{made.agent.name!r}'
            )
        made[SHORT[name]][name] = value
    return made


def parse_goal(text: str) -> race.Goal:
    """'metric:value' as a goal; '' is none."""
    metric, _, value = text.partition(':')
    try:
        goal = race.Goal(metric, float(value)) if text else race.Goal()
        if not math.isfinite(goal.value):
            raise ValueError(value)
        return goal
    except ValueError as error:
        raise ValueError(f"--threshold: expected 'metric:value', found {text!r}") from error


def show(result: dict[str, Any]) -> None:
    """Prints a table."""
    print(f'{"":32s}{"ours":>14s}{"peer":>14s}{"ratio":>10s}')
    for name, value in result['ours'].items():
        row = [value, result['peer'].get(name), result['ratio'].get(name)]
        if not isinstance(value, list):
            cells = ['-' if x is None else f'{x:,.4g}' if x < 1e4 else f'{x:,.0f}' for x in row]
            print(f'{name:32s}{cells[0]:>14s}{cells[1]:>14s}{cells[2]:>10s}')
    for line in result['not_equal']:
        print(f'not equal: {line}')


def main(_):
    jax.config.update('jax_enable_compilation_cache', False)
    changes = {name: FLAGS[name].value for name in SHORT if FLAGS[name].value is not None}
    config = make_config(FLAGS.config, FLAGS.env, changes)
    options = figures.Options(FLAGS.peer, parse_goal(FLAGS.threshold), FLAGS.seeds, FLAGS.repeats)
    sections.choose('loop.name', learner.ONLINE, config.loop.name)
    kinds.make_run(config)  # mistakes in the config show before anything is measured
    is_replayed = config.loop.name == 'off_policy'
    result = (replay if is_replayed else figures).measure(config, options)
    show(result)
    if FLAGS.out:
        paths.write_json(FLAGS.out, result)


if __name__ == '__main__':
    config_flags.define_config()
    flags.DEFINE_string('env', None, "A task's name, with the library's defaults.")
    flags.DEFINE_enum('peer', '', ['', *figures.PEERS, *replay.PEERS], 'Trained beside ours.')
    flags.DEFINE_string('threshold', '', "'metric:value' of the evaluation, as success_final:0.9.")
    flags.DEFINE_integer('seeds', 1, 'Training runs of each side.', lower_bound=1)
    flags.DEFINE_integer('repeats', 5, 'Rounds to measure, of each run.', lower_bound=1)
    config_flags.define_output('out', None, 'Write the figures to this JSON file.')
    for name, group in SHORT.items():
        number = flags.DEFINE_float if name in ('learning_rate', 'gamma') else flags.DEFINE_integer
        number(name, None, f'Short for --config.{group}.{name}.')
    config_flags.run_main(main)
