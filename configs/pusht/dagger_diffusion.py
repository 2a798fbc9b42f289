"""DAgger on Push-T with a diffusion policy, whose own loss decides when it asks a better one.

  python -m experiments.train --config=configs/pusht/dagger_diffusion.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --config.expert.workdir=runs/pusht \
      --config.loop.restart=False --config.begin.workdir=runs/weaker --workdir=runs/pusht_dagger

runs/pusht is a trained run of diffusion_small. The learner begins with the weights of runs/weaker,
or from nothing without `--config.begin.workdir`. The recipe is meant for a GPU and has not been run
there yet, so no result is known; docs/interactive.md explains the method.
"""

from jaxpolicy.runs import recipe

from . import dagger_bc, diffusion_small


def get_config():
    bc = dagger_bc.get_config()
    config = recipe.dagger('diffusion', 'pusht', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr')
    config.agent.update(diffusion_small.get_config().agent)
    config.normalize, config.data, config.eval = bc.normalize, bc.data, bc.eval
    config.expert.workdir = bc.expert.workdir
    config.loop.update(bc.loop)
    config.loop.gate = 'surprise'
    return config
