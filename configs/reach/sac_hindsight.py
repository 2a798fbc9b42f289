"""SAC on reach with a sparse reward and goals in hindsight (HER), for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_hindsight.py \\
    --workdir=runs/reach_hindsight --num_seeds=5

Expected: success .65 [.35, .94] after 27,648 steps and .85 [.75, .95] after 104,448 (mean and 95%
interval over five seeds, 256 episodes each), where configs/reach/sac_sparse.py has .00 and .25. It
goes up and down between .7 and .9 from 40,000 steps on. With `--config.env.tolerance=0.05`: .82
[.70, .95] after 27,648 and .89 [.83, .94] after 104,448, where without hindsight it is .00 and .98.
6 to 7 minutes of one core for five seeds.
"""

from configs.reach import sac_sparse


def get_config():
    config = sac_sparse.get_config()
    config.loop.hindsight_share = 0.8  # as in the paper
    return config
