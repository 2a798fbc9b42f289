"""PPO on detour: it settles on one side.

  python -m experiments.train --config=configs/detour/ppo.py --workdir=runs/detour_ppo

Expected: 100% success [99.6, 100], 0 pillar contacts of 1,024, after 44 s of training
on two CPU cores, compilation included (seed 0; docs/results.md).
"""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'detour')
    config.agent.init_std = 0.4
    config.loop.num_env_steps = 1_600_000
    config.loop.updates_per_step = 5
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    config.eval.num_episodes = 1024
    return config
