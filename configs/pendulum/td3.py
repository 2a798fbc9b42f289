"""TD3 on the pendulum, for two CPU cores.

python -m experiments.train --config=configs/pendulum/td3.py --workdir=runs/td3 --num_seeds=5
"""

from configs import base
from configs.pendulum import sac


def get_config():
    return sac.small(base.off_policy('td3', 'pendulum'))
