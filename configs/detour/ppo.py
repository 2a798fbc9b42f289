"""PPO on detour."""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'detour')
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    config.eval.num_episodes = 256
    return config
