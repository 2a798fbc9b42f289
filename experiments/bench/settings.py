"""Times settings that share a program: python -m experiments.bench.settings --config=configs/...

  python -m experiments.bench.settings --config=configs/pendulum/sac.py --field=tau --num_seeds=5 \
      --config.loop.iterations_per_round=50

The settings differ in `config.agent.<field>`, from .7 to 1.3 of its value. For each number of
settings it prints the seconds of compiling and of a round, and the seconds of a round for each
setting relative to those of the run alone, with its own program. All programs run in turns, and
medians count (see `jaxpolicy.runs.together`).
"""

import time

import jax
import numpy as np
from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import kinds, program

FLAGS = flags.FLAGS


def main(_):
    config, field, seeds = FLAGS.config, FLAGS.field, FLAGS.num_seeds
    value = config.agent.get(field)
    if not isinstance(value, float):
        raise ValueError(f'--field: expected a number of config.agent, found {field!r} ({value!r})')
    run, sides = kinds.make_run(config), {}
    for count in (0, *map(int, FLAGS.settings)):  # 0: the run alone
        made, data = program.of_run(run, 0, seeds, None), run.data
        if count:
            numbers = {field: np.asarray(value * np.linspace(0.7, 1.3, count), np.float32)}
            made, data = program.of_settings(run, numbers, 0, seeds), (numbers, run.data)
        state, begin = made.init(), time.perf_counter()
        made.jitted['step'].lower(state, data).compile()
        sides[count] = [made.step, state, data, time.perf_counter() - begin, []]
    for _ in range(FLAGS.repeats + 1):  # the first round of each is left out
        for side in sides.values():
            begin = time.perf_counter()
            side[1], found = side[0](side[1], side[2])
            jax.block_until_ready((side[1], found))
            side[4].append(time.perf_counter() - begin)
    alone_s = float(np.median(sides[0][4][1:]))
    print(f'{"settings":>8s} {"compiling s":>12s} {"round s":>9s} {"for each, relative":>19s}')
    for count, side in sides.items():
        round_s = float(np.median(side[4][1:]))
        share = round_s / max(count, 1) / alone_s
        print(f'{count or "alone":>8} {side[3]:12.1f} {round_s:9.3f} {share:19.2f}')


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_string('field', 'learning_rate', 'Field of config.agent that differs.')
    flags.DEFINE_list('settings', ['1', '2', '4', '8'], 'Numbers of settings to measure.')
    flags.DEFINE_integer('num_seeds', 1, 'Seeds of every setting.', lower_bound=1)
    flags.DEFINE_integer('repeats', 3, 'Rounds that are timed.', lower_bound=1)
    config_flags.run_main(main)
