"""TD3 on the pendulum, for two CPU cores.

  python -m experiments.train --config=configs/pendulum/td3.py --workdir=runs/td3 --num_seeds=5

Expected: a return of -154 [-159, -150] after 20,000 env steps (5 seeds, 100 episodes each; commit
307214e).
"""

from jaxpolicy.runs import recipe

from . import sac


def get_config():
    return sac.small(recipe.off_policy('td3', 'pendulum'))
