"""BC on the pendulum, from demonstrations with true actions or with those of `experiments.label`.

  python -m experiments.collect --workdir=runs/pendulum --num_episodes=20 --keep=all \
    --out=data/pendulum.npz
  python -m experiments.train --config=configs/pendulum/bc.py --workdir=runs/bc --num_seeds=5

The demonstrator is a run of configs/pendulum/sac.py. Expected over 5 seeds with 100 episodes each:
a return of -149 [-150, -148] with the true actions, and of -151 [-154, -148] with labels instead
(BCO). Training all five seeds takes 100 s on one busy core (docs/observation-only.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('bc', 'pendulum', 'episodes', 'data/pendulum.npz')
    config.agent.obs_horizon = 1
    config.agent.pred_horizon = 1
    config.agent.action_horizon = 1
    config.agent.width = 64
    config.agent.num_blocks = 2
    config.agent.learning_rate = 1e-3
    config.agent.warmup_updates = 100
    config.loop.batch_size = 64
    config.loop.num_epochs = 300
    config.loop.epochs_per_round = 30
    config.eval.every = 5
    config.eval.num_episodes = 100
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 5
    return config
