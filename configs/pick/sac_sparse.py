"""SAC on pick with a sparse reward and no demonstrations: what rlpd.py is compared with.

python -m experiments.train --config=configs/pick/sac_sparse.py --workdir=runs/sac_sparse

Expected: no success at all after 61,600 env steps (5 seeds, 128 episodes each; commit 2609d7b),
8 minutes of one of two cores of an AMD EPYC for all five.
"""

from configs.pick import rlpd


def get_config():
    return rlpd.sparse()
