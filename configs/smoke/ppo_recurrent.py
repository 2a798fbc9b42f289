"""PPO with a memory on the pendulum, four tiny rounds, for tests.

  python -m experiments.train --config=configs/smoke/ppo_recurrent.py --workdir=DIR

Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe

from . import ppo


def get_config():
    config = ppo.shrink(recipe.on_policy('ppo_recurrent', 'pendulum'))
    config.agent.memory_size = 8
    config.agent.cell = 'lstm'
    return config
