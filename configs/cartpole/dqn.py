"""DQN on CartPole: double, duelling, three-step returns, prioritised replay; for two CPU cores.

  python -m experiments.train --config=configs/cartpole/dqn.py --workdir=runs/dqn --num_seeds=5

`--config.agent.double=False`, `--config.agent.duelling=False`, `--config.loop.num_steps=1` and
`--config.loop.priority_exponent=0` take one part away each.
"""

from configs import base


def get_config():
    config = base.off_policy('dqn', 'cartpole')
    config.loop.num_envs = 8
    config.loop.num_minibatches = 4
    config.loop.batch_size = 128
    config.loop.buffer_size = 50_000
    config.loop.learning_starts = 1_000
    config.loop.num_steps = 3
    config.loop.priority_exponent = 0.6
    config.loop.iterations_per_step = 250
    config.loop.num_env_steps = 50_000
    config.eval.every = 2
    config.eval.num_episodes = 64
    config.eval.score = 'return'
    config.eval.modes = ('deterministic',)
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 12
    return config
