"""Records demonstrations with rewards, vectorised in JAX:

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.collect --workdir=runs/reach --num_episodes=1000 --noise=0,0.3,1 --out=FILE

The first command records the env's scripted expert, the second the policy of a trained run. With
`--noise=0,0.3,1`, a third of the episodes has no random actions, a third has 30%, and in a third
all actions are random. The file is in the format of `jaxpolicy.data.episodes`. Unless actions were
random, episodes that fail are left out (`--keep=all` keeps them). Success is the metric of that
name at an episode's last step.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths
from jaxpolicy.loops import collect
from jaxpolicy.runs import demonstrators, learner

FLAGS = flags.FLAGS


def load() -> collect.Demonstrator:
    """Who demonstrates, as the flags say."""
    changes = [text if '.' in text.split('=')[0] else f'env.{text}' for text in FLAGS.override]
    of_run = ('checkpoint', 'mode')
    if wrong := [name for name in (('env',) if FLAGS.workdir else of_run) if FLAGS[name].present]:
        expected = 'none, as the env is that of the run' if FLAGS.workdir else 'a --workdir with it'
        raise ValueError(f'--{wrong[0]}: expected {expected}')
    if not FLAGS.workdir:
        return demonstrators.scripted(FLAGS.env, changes)
    return demonstrators.of_run(Path(FLAGS.workdir), FLAGS.checkpoint, FLAGS.mode, changes)


def describe(ones: Sequence[collect.Demonstration]) -> str:
    """How good demonstrations are, in words."""
    success, total = collect.summary(ones)
    known = '' if math.isnan(success) else f'success rate {success:.3f}, '
    return f'{known}mean return {total:.3f}'


def main(_):
    path = Path(FLAGS.out)
    noise = collect.check_noise(FLAGS.noise)
    keep = FLAGS.keep or ('all' if noise else 'success')
    episodes, kept, tried = collect.collect(load(), FLAGS.num_episodes, FLAGS.seed, noise, keep)
    paths.write(path, lambda place: episodes_lib.save(place, episodes))
    size = path.stat().st_size / 1e6
    counts = f'{len(kept)} episodes, {len(episodes.action)} steps, {size:.1f} MB'
    print(f'{path}: {counts}, {describe(kept)}')
    print(f'{len(tried)} episodes were tried: {describe(tried)}')
    if broken := episodes.info.get('broken_episodes'):
        print(f'{broken} more broke (a number was not finite) and were dropped')
    for level in noise:
        print(f'  noise {level:g}: {describe([one for one in tried if one.noise == level])}')


if __name__ == '__main__':
    flags.DEFINE_string('env', 'detour', 'A task with an expert: detour or pick.')
    about = 'The run whose policy demonstrates, instead of --env.'
    config_flags.define_input('workdir', None, about, folder=True)
    flags.DEFINE_string('checkpoint', 'best', "Of the run: 'best', 'latest' or a step.")
    flags.DEFINE_enum('mode', 'deterministic', sorted(learner.MODES), "Of the run's policy.")
    flags.DEFINE_multi_string('override', [], 'field=value of the env, or group.key=value.')
    flags.DEFINE_list('noise', [], 'Probabilities of random actions, an equal share for each.')
    flags.DEFINE_enum('keep', None, ['success', 'all'], 'Which; success unless there is noise.')
    flags.DEFINE_integer('num_episodes', 1000, 'Episodes to keep.', lower_bound=1)
    config_flags.define_output('out', None, 'The .npz file to write.', required=True)
    config_flags.define_seed('seed', 0, 'Seed of starts, policies and noise.')
    config_flags.run_main(main)
