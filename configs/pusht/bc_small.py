"""BC on Push-T's human demonstrations, with keypoints, for two CPU cores; head 'mixture' or 'mse'.

  python -m experiments.train --config=configs/pusht/bc_small.py --config.agent.head=mixture \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_bc

A residual MLP of 3 M parameters; the horizons, the data and the evaluation are the paper's.

Expected (score on seeds 100000..100049, best and mean of the last 10 of 20 checkpoints):
mse .77 and .71, mixture .89 and .83, after 7 and 11 minutes of training on two busy CPU cores
(seed 0; docs/results.md).
"""

from configs import base
from configs.pusht import diffusion_small


def get_config():
    config = base.offline('bc', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config = diffusion_small.small(config)
    config.loop.batch_size = 128
    config.loop.num_epochs = 100
    config.eval.every = 5
    config.checkpoint.every = 5
    return config
