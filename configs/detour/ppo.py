"""PPO on detour."""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'detour')
    config.agent.init_std = 0.4
    config.loop.num_env_steps = 1_600_000
    config.loop.updates_per_step = 5
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    config.eval.num_episodes = 1024
    return config
