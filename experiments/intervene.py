"""A person takes over from a policy: python -m experiments.intervene --workdir=DIR --out=FILE

The policy of a run acts in MuJoCo's viewer. Space or a gamepad's first button takes over and hands
back. Meanwhile the arrow keys (x, y), Page Up and Page Down (z), or the sticks, steer the arm's
tip, which moves on until another key or `.` stops it. Backspace starts the next episode, and Escape
ends the session.
The episodes go to an episode file whose tag 'intervention' marks the person's steps. Learn from
them together with the demonstrations (HG-DAgger; Kelly et al., 2019, arXiv:1810.02890):

  python -m experiments.train ... --config.data.path=data/detour.npz,FILE \\
      --config.data.tag=intervention

It works for `detour` and `reach`, and needs a screen; from Python, `takeover.session` takes any
`Console`.
"""

import contextlib
import functools
import sys
from pathlib import Path

from absl import flags

from jaxpolicy import ranges
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.render import console
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths
from jaxpolicy.runs import environment, saved, sections, takeover

FLAGS = flags.FLAGS
ARMS = ('detour', 'reach')


def main(_):
    directory, out = Path(FLAGS.workdir), Path(FLAGS.out)
    ranges.check_seeds('--first_seed', FLAGS.first_seed, FLAGS.num_episodes)
    config = saved.load_config(directory)
    sections.choose('env.name', ARMS, config.env.name)
    task, chosen = environment.on_device(config)
    policy = saved.load_policy(directory, which=FLAGS.checkpoint)
    found = None
    with contextlib.ExitStack() as stack:
        try:
            person = stack.enter_context(console.Screen(task.module, chosen))
        except RuntimeError as error:  # there is none
            raise ValueError(str(error)) from error
        turn = takeover.session(config, policy, person, FLAGS.num_episodes, FLAGS.first_seed)
        for found in turn:  # saved after every episode: nothing is lost
            paths.write(out, functools.partial(episodes_lib.save, episodes=found))
    if found is None:
        sys.exit('intervene: there is no episode to keep, nothing is written')
    share = found.tags['intervention'].mean()
    print(
        f'{out}: {len(found.episode_ends)} episodes, {len(found.action)} steps, {share:.0%} yours'
    )


if __name__ == '__main__':
    config_flags.define_input('workdir', None, 'Directory of the run.', folder=True, required=True)
    config_flags.define_output('out', None, 'The .npz file to write.', required=True)
    flags.DEFINE_integer('num_episodes', 20, 'Episodes.', lower_bound=1)
    config_flags.define_seed('first_seed', 600_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    config_flags.run_main(main)
