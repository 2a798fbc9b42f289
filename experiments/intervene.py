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

import sys
from pathlib import Path

from absl import flags

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.render import console
from jaxpolicy.io import flags as config_flags
from jaxpolicy.runs import environment, saved, sections, takeover

FLAGS = flags.FLAGS
ARMS = ('detour', 'reach')


def main(_):
    directory, out = Path(FLAGS.workdir), Path(FLAGS.out)
    try:
        config = saved.load_config(directory)
        sections.choose('env.name', ARMS, config.env.name)
        task, chosen = environment.on_device(config)
        policy = saved.load_policy(directory, which=FLAGS.checkpoint)
        out.parent.mkdir(parents=True, exist_ok=True)
        found = None
        with console.Screen(task.module, chosen) as person:
            turn = takeover.session(config, policy, person, FLAGS.num_episodes, FLAGS.first_seed)
            for found in turn:
                episodes_lib.save(out, found)  # after every episode: nothing is lost
    except (ValueError, ImportError, RuntimeError) as error:
        sys.exit(f'intervene: error: {error}')
    if found is None:
        sys.exit('intervene: there is no episode to keep, nothing is written')
    share = found.tags['intervention'].mean()
    print(
        f'{out}: {len(found.episode_ends)} episodes, {len(found.action)} steps, {share:.0%} yours'
    )


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Directory of the run.', required=True)
    flags.DEFINE_string('out', None, 'The .npz file to write.', required=True)
    flags.DEFINE_integer('num_episodes', 20, 'Episodes.', lower_bound=1)
    flags.DEFINE_integer('first_seed', 600_000, 'Seed of the first episode.')
    flags.DEFINE_string('checkpoint', 'best', "'best', 'latest' or a step.")
    config_flags.run_main(main)
