"""DQN on CartPole, double and duelling, with three-step returns; for two CPU cores.

  python -m experiments.train --config=configs/cartpole/dqn.py --workdir=runs/dqn --num_seeds=5

Expected: a return of 404 of 500 after 53,000 env steps and of 468 [408, 529] after 100,000 (5
seeds, 64 episodes each, commit 307214e), after 6 minutes of one core. The policy balances early and
then learns slowly not to drift.

Three flags take one part away each: `--config.agent.double=False`, `--config.agent.duelling=False`
and `--config.loop.n_step=1`. `--config.loop.priority_exponent=0.6` samples by priority, which did
worse here (254, with a smaller network and higher rates).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('dqn', 'cartpole')
    config.agent.hidden = (256, 256)
    config.agent.learning_rate = 3e-4
    config.agent.tau = 0.02
    config.loop.num_envs = 8
    config.loop.num_minibatches = 4
    config.loop.batch_size = 128
    config.loop.buffer_size = 100_000
    config.loop.learning_starts = 1_000
    config.loop.n_step = 3
    config.loop.iterations_per_round = 250
    config.loop.num_env_steps = 100_000
    config.eval.every = 2
    config.eval.num_episodes = 64
    config.eval.score = 'return'
    config.eval.modes = ('deterministic',)
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 12
    return config
