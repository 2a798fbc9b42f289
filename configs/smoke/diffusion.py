"""A diffusion policy on the pendulum, with a few updates, for tests.

  python -m experiments.train --config=configs/smoke/diffusion.py --config.data.path=FILE \
      --workdir=DIR

FILE holds any episodes of the pendulum. Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe

from . import bc


def get_config():
    config = recipe.offline('diffusion', 'pendulum', 'episodes', 'data/pendulum.npz')
    config.agent.dims = (8, 16)
    config.agent.num_train_steps = 4
    config.agent.num_sample_steps = 2
    return bc.shrink(config)
