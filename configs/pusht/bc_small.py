"""BC on Push-T's human demonstrations, with keypoints, for two CPU cores; head 'mixture' or 'mse'.

  python -m experiments.train --config=configs/pusht/bc_small.py --config.agent.head=mixture \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_bc

The network, the data, the number of updates and the evaluation are those of diffusion_small.py.
"""

from configs import base
from configs.pusht import diffusion_small


def get_config():
    config = base.offline('bc', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    return diffusion_small.small(config)
