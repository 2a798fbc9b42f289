"""Diffusion Policy on Push-T's human demonstrations, for two CPU cores."""

from configs import base


def get_config():
    config = base.offline('diffusion', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config.agent.network = 'mlp'
    config.agent.width = 512
    config.agent.num_blocks = 3
    config.agent.target = 'x0'
    config.agent.learning_rate = 3e-4
    config.agent.sampler = 'ddim'
    config.agent.num_sample_steps = 16
    config.normalize.action = 'min_max'
    config.loop.batch_size = 128
    config.loop.num_epochs = 400
    config.loop.epochs_per_step = 5
    config.eval.every = 8
    config.checkpoint.every = 8
    config.checkpoint.keep_last = 10
    config.eval.score = 'score_max'
    config.eval.metrics = ('score_max', 'success_max', 'coverage_final', 'length')
    return config
