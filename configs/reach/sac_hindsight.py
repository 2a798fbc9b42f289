"""SAC on reach with a sparse reward and goals in hindsight (HER), for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_hindsight.py \
    --workdir=runs/reach_hindsight --num_seeds=5

Expected: success .59 [.23, .94] after 27,648 env steps, .90 [.82, .99] after 46,848 and .95 [.87,
1.0] after 104,448 (mean and 95% interval over five seeds, 256 episodes each), where
configs/reach/sac_sparse.py has .00, .00 and .25. With the paper's share of 0.8, success is .65
after 27,648 steps and .85 at the end, and goes up and down between .7 and .9 from 40,000 steps on.
Training all five seeds takes 7 minutes of one core (docs/off-policy.md).
"""

from . import sac_sparse


def get_config():
    config = sac_sparse.get_config()
    config.loop.hindsight_share = 0.5  # 0.8 in the paper
    return config
