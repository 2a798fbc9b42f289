"""PPO on MuJoCo Playground's CartpoleSwingup, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cartpole_swingup.py --workdir=runs/swingup

Expected: a return of 814 [771, 858] of at most 1,000, deterministic, after 2.1 million steps (5
seeds).
For the numbers see cartpole_balance.py.
"""

from configs.playground import cartpole_balance


def get_config():
    config = cartpole_balance.get_config('CartpoleSwingup')
    config.loop.num_env_steps = 2_000_000
    config.loop.iterations_per_round = 20
    return config
