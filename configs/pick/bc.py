"""BC on pick from 100 demonstrations of the scripted expert, to be compared with rlpd.py.

  python -m experiments.collect --env=pick --override=reward=sparse --num_episodes=100 \
      --out=data/pick_sparse.npz
  python -m experiments.train --config=configs/pick/bc.py --workdir=runs/pick_bc --num_seeds=5

Expected: success .98 [.97, .995] after 2 minutes of one busy core of an AMD EPYC (5 seeds, 128
episodes each; commit a4c6eda). With 10 demonstrations it is .29 at best (docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('bc', 'pick', 'episodes', 'data/pick_sparse.npz')
    config.env.reward = 'sparse'
    config.agent.obs_horizon = 1
    config.agent.pred_horizon = 8
    config.agent.action_horizon = 4
    config.agent.width = 256
    config.agent.num_blocks = 2
    config.normalize.action = 'min_max'
    config.loop.num_epochs = 40
    config.loop.epochs_per_round = 20
    config.eval.every = 2
    config.eval.num_episodes = 128
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
