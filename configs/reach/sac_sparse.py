"""SAC on reach with the sparse reward, for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_sparse.py --workdir=runs/reach_sparse \
    --num_seeds=5
"""

from configs import base
from configs.reach import sac


def get_config():
    config = sac.small(base.off_policy('sac', 'reach'))
    config.env.reward = 'sparse'
    return config
