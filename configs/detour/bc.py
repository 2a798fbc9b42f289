"""BC with squared error on detour: it averages the two sides of the pillar, and fails.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/bc.py --workdir=runs/detour_bc

Expected: of 1,024 episodes none succeeds and all touch the pillar, after 7 s of training on two CPU
cores, compilation included (seed 0; docs/results.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('bc', 'detour', 'episodes', 'data/detour.npz')
    config.agent.width = 256
    config.agent.num_blocks = 2
    config.agent.learning_rate = 1e-3
    config.agent.warmup_updates = 100
    config.normalize.action = 'min_max'
    config.loop.num_epochs = 12
    config.eval.num_episodes = 1024
    config.eval.every = 2
    config.checkpoint.every = 2
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    return config
