"""PPO on pick (shaped), for two CPU cores.

  python -m experiments.train --config=configs/pick/ppo.py --workdir=runs/pick

Physics by MuJoCo's C engine where JAX has one CPU device (`--config.env.backend=mjx` for MJX).
Expected: success .79 after 2.0 million steps and .98 [.94, 1.0] after 3.0 million (5 seeds, 128
episodes each); about 13,000 environment steps a second on two idle cores, 4 minutes for one seed.
"""

from configs import base


def get_config():
    config = base.on_policy('ppo', 'pick')
    config.loop.num_envs = 512
    config.loop.num_env_steps = 3_000_000
    config.loop.iterations_per_round = 10
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.num_episodes = 512
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
