"""SAC on the pendulum, for two CPU cores.

  python -m experiments.train --config=configs/pendulum/sac.py --workdir=runs/pendulum --num_seeds=5

Expected: a return of -149 [-153, -145] after 20,000 env steps (5 seeds, 100 episodes each).
Training all five seeds takes 46 s, compilation included, on two cores of an AMD EPYC (commit
2eb02ff; docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    return small(recipe.off_policy('sac', 'pendulum'))


def small(config):
    """Sets what the recipes of off-policy RL on the pendulum share."""
    config.agent.hidden = (64, 64)
    config.agent.learning_rate = 1e-3
    config.agent.gamma = 0.98
    config.loop.num_envs = 1
    config.loop.rollout_length = 2
    config.loop.num_minibatches = 2
    config.loop.learning_starts = 1000
    config.loop.buffer_size = 20_000
    config.loop.iterations_per_round = 500
    config.loop.num_env_steps = 20_000
    config.eval.every = 2
    config.checkpoint.every = 19
    config.eval.num_episodes = 100
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
