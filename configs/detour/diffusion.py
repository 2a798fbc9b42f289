"""A diffusion policy on detour: it keeps both sides of the pillar.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/diffusion.py --workdir=runs/detour_diffusion

Expected: 99.1% success [98.3, 99.5] and a contact with the pillar in 0.9% of 1,024 episodes, after
32 s of training on two idle CPU cores, compilation included (seed 0; docs/results.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('diffusion', 'detour', 'episodes', 'data/detour.npz')
    config.agent.network = 'mlp'
    config.agent.width = 256
    config.agent.num_blocks = 3
    config.agent.objective = 'x0'
    config.agent.learning_rate = 1e-3
    config.agent.warmup_updates = 100
    config.agent.sampler = 'ddim'
    config.agent.num_sample_steps = 10
    config.normalize.action = 'min_max'
    config.loop.num_epochs = 40
    config.eval.num_episodes = 1024
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    return config
