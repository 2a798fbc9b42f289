"""PPO with a memory on the pendulum, four tiny steps: for tests.

  python -m experiments.train --config=configs/smoke/ppo_recurrent.py --workdir=DIR

Expected: seconds, and nothing learnt.
"""

from configs import base
from configs.smoke import ppo


def get_config():
    config = ppo.shrink(base.on_policy('ppo_recurrent', 'pendulum'))
    config.agent.memory_size = 8
    config.agent.cell = 'lstm'
    return config
