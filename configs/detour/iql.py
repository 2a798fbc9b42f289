"""IQL on detour, from demonstrations of mixed quality."""

from configs import base


def get_config():
    return small(base.offline_rl('iql', 'detour', 'data/detour_mixed.npz'))


def small(config):
    """What the recipes of offline RL on detour share."""
    config.agent.hidden = (128, 128)
    config.agent.learning_rate = 1e-3
    config.loop.num_updates = 10_000
    config.loop.updates_per_step = 1_000
    config.eval.every = 5
    config.eval.num_episodes = 512
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'contact_max', 'length')
    config.checkpoint.every = 5
    return config
