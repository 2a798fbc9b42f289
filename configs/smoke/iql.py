"""IQL on the pendulum, four tiny rounds, for tests.

  python -m experiments.train --config=configs/smoke/iql.py --config.data.path=FILE --workdir=DIR

FILE holds any episodes of the pendulum with rewards. Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline_rl('iql', 'pendulum', 'data/pendulum.npz')
    config.env.episode_steps = 3
    config.agent.hidden = (8,)
    config.loop.batch_size = 8
    config.loop.num_updates = 4 * 16
    config.loop.updates_per_round = 16
    config.loop.n_step = 2
    config.eval.num_episodes = 2
    config.eval.every = 4
    config.eval.modes = ('deterministic',)  # one program less to compile
    config.eval.score = 'success_max'
    config.checkpoint.every = 1
    return config
