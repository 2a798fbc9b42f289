"""Labels demonstrations that have no actions, by inverse dynamics (BCO, Torabi et al., 2018):

  python -m experiments.label --env=pendulum --demos=FILE --out=FILE
  python -m experiments.label --workdir=RUN --demos=FILE --out=FILE

It explores the env at random, learns which action leads from one observation to the next, and
labels the observations of the demonstrations; actions in their files are not used. What it writes
is an ordinary file of episodes for any offline recipe: training on it is BCO(0). With `--workdir`,
the policy of that run explores as well: repeating both is BCO(alpha).

`--compare` also prints how far the labels are from the actions in the file, where it has true ones.
"""

from absl import flags

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths
from jaxpolicy.runs import action_labels as labelling
from jaxpolicy.runs import dataset

FLAGS = flags.FLAGS


def main(_):
    config = labelling.Config(FLAGS.explore_steps, FLAGS.num_updates)
    parts = dataset.read(','.join(FLAGS.demos), '--demos')
    who = labelling.explorer(FLAGS.env or '', FLAGS.workdir or '', FLAGS.override)
    dataset.judge(who.about, parts)
    demos = dataset.join(parts)
    labelling.check_fit(who.env.spec, demos)
    agent, state, errors = labelling.fit(who, config, FLAGS.seed)
    steps = f'{config.explore_steps} own steps each of {", ".join(errors)}'
    found = ', '.join(f'{name} {error.rmse:.4f}' for name, error in errors.items())
    words = f'inverse dynamics, {steps}, seed {FLAGS.seed}, held-out error {found}'
    labelled = labelling.label(agent, state, demos, words)
    print(f'experience: {steps}; error on an eighth more, held out:')
    for name, error in errors.items():
        broke = f', {error.num_broken} steps broke' if error.num_broken else ''
        print(f'  {name:8s} rmse {error.rmse:.4f}, explained {error.explained:.4f}{broke}')
    if FLAGS.compare:
        true = demos.action[labelling.pairs(demos)[2]]
        error = labelling.compare(labelled.action, true)
        print(f'  labels   rmse {error.rmse:.4f}, explained {error.explained:.4f} (of the file)')
    paths.write(FLAGS.out, lambda place: episodes_lib.save(place, labelled))
    print(f'{FLAGS.out}: {len(labelled.episode_ends)} episodes, {len(labelled.action)} steps')


if __name__ == '__main__':
    flags.DEFINE_string('env', None, 'The task; that of the run if there is a --workdir.')
    config_flags.define_input('workdir', None, 'A run whose policy explores as well.', folder=True)
    about = 'Episodes whose observations are labelled.'
    config_flags.define_inputs('demos', None, about, folder=False, required=True)
    config_flags.define_output('out', None, 'The .npz file to write.', required=True)
    flags.DEFINE_multi_string('override', [], 'env.field=value and the like.')
    flags.DEFINE_integer('explore_steps', 20_000, 'Of each way of exploring.', lower_bound=64)
    flags.DEFINE_integer('num_updates', 5_000, 'Of the inverse model.', lower_bound=1)
    flags.DEFINE_bool('compare', False, 'Print how far the labels are from the actions there.')
    config_flags.define_seed('seed', 0, 'Seed of exploration and model.')
    config_flags.run_main(main)
