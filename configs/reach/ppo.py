"""PPO on reach."""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'reach')
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'success_max')
    config.eval.num_episodes = 256
    return config
