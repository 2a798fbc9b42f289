"""Diffusion Policy on detour."""

from configs import base


def get_config():
    config = base.offline('diffusion', 'detour', 'episodes', 'data/detour.npz')
    config.agent.network = 'mlp'
    config.agent.width = 256
    config.agent.num_blocks = 3
    config.agent.target = 'x0'
    config.agent.learning_rate = 1e-3
    config.agent.warmup_steps = 100
    config.agent.sampler = 'ddim'
    config.normalize.action = 'min_max'
    config.loop.num_epochs = 40
    config.eval.num_episodes = 1024
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    return config
