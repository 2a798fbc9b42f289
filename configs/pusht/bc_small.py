"""BC on Push-T's human demonstrations, with keypoints, for two CPU cores; head 'mixture' or 'mse'.

  python -m experiments.train --config=configs/pusht/bc_small.py --config.agent.head=mixture \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_bc

The network is a residual MLP of 3 M parameters; the horizons, the data and the evaluation are the
paper's.

Expected scores on the seeds 100000 to 100049: mse has .77 (best checkpoint) and .71 (mean of the
last 10 of 20), after 7 minutes of training on two busy CPU cores; mixture has .89 and .83, after 11
minutes (seed 0; docs/results.md).
"""

from jaxpolicy.runs import recipe

from . import diffusion_small


def get_config():
    config = recipe.offline('bc', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config = diffusion_small.small(config)
    config.loop.batch_size = 128
    config.loop.num_epochs = 100
    config.eval.every = 5
    config.checkpoint.every = 5
    return config
