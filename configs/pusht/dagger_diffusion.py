"""DAgger on Push-T with a diffusion policy, whose own loss decides when it asks a better one.

  python -m experiments.train --config=configs/pusht/dagger_diffusion.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --config.expert.workdir=runs/pusht \
      --config.loop.restart=False --config.begin.workdir=runs/weaker --workdir=runs/pusht_dagger

runs/pusht is a trained run of diffusion_small; without `begin`, the learner starts from nothing.
Meant for a GPU; not yet run there. See docs/interactive.md.
"""

from configs import base
from configs.pusht import dagger_bc, diffusion_small


def get_config():
    bc = dagger_bc.get_config()
    config = base.dagger('diffusion', 'pusht', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config.agent.update(diffusion_small.get_config().agent)
    config.normalize, config.data, config.eval = bc.normalize, bc.data, bc.eval
    config.expert.workdir = bc.expert.workdir
    config.loop.update(bc.loop)
    config.loop.gate = 'surprise'
    return config
