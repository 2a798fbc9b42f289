"""SAC on reach with a sparse reward, 1 within 3 cm of the goal, for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_sparse.py --workdir=runs/reach_sparse \\
    --num_seeds=5

Expected: success .02 after 78,848 steps and .25 [.00, .63] after 104,448 (mean and 95% interval of
five seeds, 256 episodes each), .00, .59, .00, .08 and .56 of the five. With
`--config.env.tolerance=0.05` random actions find goals often enough: .98 [.95, 1.0], but .00 before
40,000 steps. 5 minutes of one core for five seeds. Compare configs/reach/sac_hindsight.py.
"""

from configs import base
from configs.reach import sac


def get_config():
    config = sac.small(base.off_policy('sac', 'reach'))
    config.env.reward = 'sparse'
    config.env.tolerance = 0.03
    return config
