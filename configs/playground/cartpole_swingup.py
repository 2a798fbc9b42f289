"""PPO on MuJoCo Playground's CartpoleSwingup, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cartpole_swingup.py --workdir=runs/swingup

Expected: a return of about 740 of at most 1,000, deterministic, from 1.2 million steps on (seed 0).
For the numbers see cartpole_balance.py.
"""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'playground/CartpoleSwingup')
    config.agent.gamma = 0.995
    config.agent.reward_scale = 0.1
    config.agent.entropy_cost = 1e-2
    config.loop.num_envs = 256
    config.loop.rollout_length = 30
    config.loop.num_env_steps = 2_000_000
    config.loop.updates_per_step = 20
    config.eval.every = 2
    config.eval.num_episodes = 128
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'length')
    config.checkpoint.every = 2
    return config
