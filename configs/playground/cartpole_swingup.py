"""PPO on MuJoCo Playground's CartpoleSwingup, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cartpole_swingup.py --workdir=runs/swingup

Expected: a return of about 740 of at most 1,000, deterministic, from 1.2 million steps on (seed 0).
For the numbers see cartpole_balance.py.
"""

from configs.playground import cartpole_balance


def get_config():
    config = cartpole_balance.get_config('CartpoleSwingup')
    config.loop.num_env_steps = 2_000_000
    config.loop.updates_per_step = 20
    return config
