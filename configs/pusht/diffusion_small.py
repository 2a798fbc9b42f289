"""A small diffusion policy on Push-T's human demonstrations, with keypoints, for two CPU cores.

  python -m experiments.train --config=configs/pusht/diffusion_small.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_small

The horizons, the data and the evaluation are the paper's; the network is a residual MLP of 3 M
parameters (a U-Net of 5 M takes 15 times as long per update on a CPU), it predicts x_0 (an MLP that
predicts eps learns this task much more slowly: docs/results.md), and DDIM samples in 16 steps.
"""

from configs import base


def get_config():
    config = base.offline('diffusion', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config.agent.network = 'mlp'
    config.agent.target = 'x0'
    config.agent.learning_rate = 3e-4
    config.agent.sampler = 'ddim'
    config.agent.num_sample_steps = 16
    return small(config)


def small(config):
    """What the small recipes of Push-T share."""
    config.agent.width = 512
    config.agent.num_blocks = 3
    config.normalize.action = 'min_max'
    config.loop.batch_size = 128
    config.loop.num_epochs = 100
    config.eval.every = 5
    config.checkpoint.every = 5
    config.checkpoint.keep_last = 10
    config.eval.score = 'score_max'
    config.eval.metrics = ('score_max', 'success_max', 'coverage_final', 'length')
    return config
