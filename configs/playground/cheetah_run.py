"""PPO on MuJoCo Playground's CheetahRun, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cheetah_run.py --workdir=runs/cheetah

Expected: a return of about 450 after 1.2 million env steps (seed 0; docs/results.md). The policy
still learns then; Playground's own recipe takes 60 million steps. cartpole_balance.py explains the
settings.

A start takes 200 physics steps, in which the robot comes to rest. Therefore a rollout draws only 16
starts.
"""

from . import cartpole_balance


def get_config():
    config = cartpole_balance.get_config('CheetahRun')
    config.loop.pool_size = 16
    config.loop.num_env_steps = 3_000_000
    config.loop.iterations_per_round = 5
    config.eval.every = 8
    config.eval.num_episodes = 32
    config.checkpoint.every = 8
    return config
