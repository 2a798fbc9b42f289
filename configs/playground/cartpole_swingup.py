"""PPO on MuJoCo Playground's CartpoleSwingup, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cartpole_swingup.py --workdir=runs/swingup

Expected for the deterministic policy: a return of 814 [771, 858], of at most 1,000, after 2.1
million env steps (5 seeds; docs/results.md). cartpole_balance.py explains the settings.
"""

from . import cartpole_balance


def get_config():
    config = cartpole_balance.get_config('CartpoleSwingup')
    config.loop.num_env_steps = 2_000_000
    config.loop.iterations_per_round = 20
    return config
