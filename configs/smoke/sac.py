"""SAC on the pendulum, four tiny rounds, for tests.

  python -m experiments.train --config=configs/smoke/sac.py --workdir=DIR

Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('sac', 'pendulum')
    config.env.episode_steps = 3
    config.agent.hidden = (8,)
    config.normalize.obs = 'running'
    config.loop.num_envs = 4
    config.loop.num_minibatches = 2
    config.loop.batch_size = 8
    config.loop.buffer_size = 64
    config.loop.learning_starts = 8
    config.loop.n_step = 2
    config.loop.iterations_per_round = 8
    config.loop.num_env_steps = 8 + 4 * 32  # four steps
    config.eval.num_episodes = 2
    config.eval.every = 4
    config.eval.modes = ('deterministic',)  # one program less to compile
    config.eval.score = 'success_max'
    config.checkpoint.every = 1
    return config
