"""PPO on detour: it settles on one side.

  python -m experiments.train --config=configs/detour/ppo.py --workdir=runs/detour_ppo

Expected: 100% success and no pillar contact on each of 5 seeds after 1.6 million steps, about 45 s
of training for one seed on two CPU cores, compilation included (docs/results.md).
"""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'detour')
    config.agent.init_std = 0.4
    config.loop.num_env_steps = 1_600_000
    config.loop.iterations_per_round = 5
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    config.eval.num_episodes = 1024
    return config
