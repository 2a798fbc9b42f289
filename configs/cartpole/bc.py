"""BC on CartPole, from demonstrations of a trained policy; for two CPU cores.

  python -m experiments.train --config=configs/cartpole/a2c.py --workdir=runs/cartpole_a2c
  python -m experiments.collect --workdir=runs/cartpole_a2c --num_episodes=50 \
      --out=data/cartpole.npz
  python -m experiments.train --config=configs/cartpole/bc.py --workdir=runs/cartpole_bc

Expected over 200 episodes: a return of 500, the largest possible, on each of the seeds 0, 1 and 2,
as the expert has. Training takes 20 s on two CPU cores, most of it compilation. From 50 episodes of
DQN (configs/cartpole/dqn.py, `--keep=all`), which itself returns 499, it reaches 495 (seed 0).

`--config.execute.name=temporal_ensemble` lets the plans of several steps vote on each choice. Old
plans are often wrong here: with the default `--config.execute.ensemble_decay=0.01`, which lets the
oldest decide where votes are even, the return is 214. With 0 or -1 it is 500.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('bc', 'cartpole', 'episodes', 'data/cartpole.npz')
    config.agent.head = 'categorical'  # an action is one of two choices
    config.agent.obs_horizon = 1  # the observation holds the velocities
    config.agent.pred_horizon = 4
    config.agent.action_horizon = 1
    config.agent.width = 128
    config.agent.num_blocks = 2
    config.agent.learning_rate = 1e-3
    config.agent.warmup_updates = 100
    config.loop.num_epochs = 20
    config.loop.epochs_per_round = 2
    config.eval.every = 5
    config.eval.num_episodes = 200
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
