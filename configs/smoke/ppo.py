"""PPO on the pendulum, four tiny rounds, for tests.

  python -m experiments.train --config=configs/smoke/ppo.py --workdir=DIR

Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe


def get_config():
    return shrink(recipe.on_policy('ppo', 'pendulum'))


def shrink(config):
    """Leaves four rounds of two iterations, evaluated on two episodes of three env steps."""
    config.env.episode_steps = 3
    config.agent.hidden = (8,)
    config.agent.num_epochs = 1
    config.agent.num_minibatches = 2
    config.loop.num_envs = 4
    config.loop.rollout_length = 4
    config.loop.iterations_per_round = 2
    config.loop.num_env_steps = 4 * 32  # four steps
    config.eval.num_episodes = 2
    config.eval.every = 4
    config.eval.modes = ('deterministic',)  # one program less to compile
    config.checkpoint.every = 1
    return config
