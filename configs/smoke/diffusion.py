"""A diffusion policy on the pendulum, a few updates: for tests.

  python -m experiments.train --config=configs/smoke/diffusion.py --config.data.path=FILE \
      --workdir=DIR

FILE holds any episodes of the pendulum. Expected: seconds, and nothing learnt.
"""

from configs import base
from configs.smoke import bc


def get_config():
    config = base.offline('diffusion', 'pendulum', 'episodes', 'data/pendulum.npz')
    config.agent.dims = (8, 16)
    config.agent.num_train_steps = 4
    config.agent.num_sample_steps = 2
    return bc.shrink(config)
