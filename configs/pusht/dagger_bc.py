"""DAgger on Push-T with BC, which asks a diffusion policy: a trained run of diffusion_small.

  python -m experiments.train --config=configs/pusht/diffusion_small.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht
  python -m experiments.train --config=configs/pusht/dagger_bc.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --config.expert.workdir=runs/pusht \
      --workdir=runs/pusht_dagger

The learner explores in `pusht`, the simulator on the device. Expected: a score of .41 before the
first round and of .49 after it, and no more after the others (5 seeds, 3 minutes of an H200;
docs/interactive.md).
"""

from jaxpolicy.runs import recipe

from . import bc_small


def get_config():
    config = recipe.dagger('bc', 'pusht', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    small = bc_small.get_config()
    config.agent.update(small.agent)
    config.agent.head = 'mixture'
    config.normalize.action = 'min_max'
    config.data.num_episodes = 50
    config.expert.workdir = 'runs/pusht'
    config.loop.num_envs = 64
    config.loop.queries_per_round = 1024
    config.loop.first_updates = 6000
    config.loop.updates_per_round = 6000
    config.loop.label_share = 0.0
    config.loop.num_rounds = 4
    config.eval.score = 'score_max'
    config.eval.metrics = small.eval.metrics
    config.eval.num_episodes = 100
    return config
