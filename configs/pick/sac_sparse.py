"""SAC on pick with a sparse reward and no demonstrations: what rlpd.py is compared with.

python -m experiments.train --config=configs/pick/sac_sparse.py --workdir=runs/sac_sparse

Not measured yet.
"""

from configs.pick import rlpd


def get_config():
    return rlpd.sparse()
