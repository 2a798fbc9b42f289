"""PPO on pick (shaped), for two CPU cores.

python -m experiments.train --config=configs/pick/ppo.py --workdir=runs/pick
"""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'pick')
    config.loop.num_envs = 512
    config.loop.num_env_steps = 5_000_000
    config.loop.updates_per_step = 10
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.num_episodes = 512
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
