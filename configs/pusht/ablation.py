"""A diffusion policy on Push-T that five seeds of many settings can afford on two CPU cores.

  python -m experiments.train --config=configs/pusht/ablation.py --num_seeds=5 \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_ablation

It is the base of `configs/sweeps/pusht_diffusion.py`. The MLP has 0.84 M parameters and learns for
3,000 updates; it is evaluated in `pusht`, the simulator on the device. Expected: see
docs/ablations.md.
"""

from jaxpolicy.runs import recipe

from . import diffusion_small


def get_config():
    config = recipe.offline('diffusion', 'pusht', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config = diffusion_small.small(config)
    config.agent.network = 'mlp'
    config.agent.width = 256
    config.agent.objective = 'x0'
    config.agent.learning_rate = 1e-3
    config.agent.warmup_updates = 100
    config.agent.sampler = 'dpmpp_2m'
    config.agent.num_sample_steps = 4
    config.loop.batch_size = 64
    config.loop.num_epochs = 8
    config.loop.epochs_per_round = 2
    config.eval.every = 2
    config.eval.num_episodes = 100
    config.eval.modes = ('deterministic',)
    config.checkpoint.every = 2
    return config
