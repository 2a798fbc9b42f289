"""DAgger on the pendulum, four rounds of a few updates and episodes, for tests.

  python -m experiments.train --config=configs/smoke/dagger.py --config.data.path=FILE \
      --config.expert.workdir=RUN --workdir=DIR

FILE holds any episodes of the pendulum, and RUN is any run on it. Expected: it takes seconds and
learns nothing.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.dagger('bc', 'pendulum', 'episodes', 'data/pendulum.npz')
    config.agent.head = 'mixture'
    config.agent.width = 16
    config.agent.num_blocks = 1
    config.loop.num_rounds = 3
    config.loop.num_envs = 4
    config.loop.queries_per_round = 3
    config.loop.batch_size = 32
    config.loop.first_updates = 3
    config.loop.updates_per_round = 2
    config.env.episode_steps = 3
    config.eval.num_episodes = 2
    config.eval.every = 4
    config.checkpoint.every = 1
    return config
