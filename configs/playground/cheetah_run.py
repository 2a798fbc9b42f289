"""PPO on MuJoCo Playground's CheetahRun, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cheetah_run.py --workdir=runs/cheetah

Expected: it still learns at the end (a return of about 450 after 1.2 million steps, seed 0).
Playground's own recipe takes 60 million. For the numbers see cartpole_balance.py.

A start takes 200 physics steps, in which the robot comes to rest; a rollout draws 16 of them.
"""

from configs.playground import cartpole_balance


def get_config():
    config = cartpole_balance.get_config('CheetahRun')
    config.loop.pool_size = 16
    config.loop.num_env_steps = 3_000_000
    config.loop.iterations_per_round = 5
    config.eval.every = 8
    config.eval.num_episodes = 32
    config.checkpoint.every = 8
    return config
