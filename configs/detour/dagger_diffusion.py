"""DAgger on detour with a diffusion policy, whose own loss decides when it asks (Diff-DAgger).

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/dagger_diffusion.py --workdir=runs/detour_diff

The expected results are in docs/interactive.md.
"""

from jaxpolicy.runs import recipe

from . import dagger_bc, diffusion


def get_config():
    bc = dagger_bc.get_config()
    config = recipe.dagger('diffusion', 'detour', 'episodes', 'data/detour.npz')
    config.agent.update(diffusion.get_config().agent)
    config.normalize, config.data, config.eval = bc.normalize, bc.data, bc.eval
    config.loop.update(bc.loop)
    config.loop.gate = 'surprise'
    return config
