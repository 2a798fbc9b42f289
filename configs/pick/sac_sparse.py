"""SAC on pick with a sparse reward and without demonstrations, to be compared with rlpd.py.

  python -m experiments.train --config=configs/pick/sac_sparse.py --workdir=runs/sac_sparse

Expected: no success at all after 61,600 env steps (5 seeds, 128 episodes each; commit 2609d7b). All
five seeds together take 8 minutes on one of two cores of an AMD EPYC (docs/off-policy.md).
"""

from . import rlpd


def get_config():
    return rlpd.sparse()
