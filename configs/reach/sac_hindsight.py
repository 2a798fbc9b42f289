"""SAC on reach with the sparse reward and goals in hindsight (HER), for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_hindsight.py \
    --workdir=runs/reach_hindsight --num_seeds=5
"""

from configs.reach import sac_sparse


def get_config():
    config = sac_sparse.get_config()
    config.loop.hindsight_share = 0.8
    return config
