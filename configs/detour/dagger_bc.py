"""DAgger on detour with BC: it begins with few demonstrations and asks the expert for the rest.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/dagger_bc.py --workdir=runs/detour_dagger

`--config.loop.gate=expert`, `surprise` or `thrifty` (the last with `--config.loop.num_members=3`)
let the expert or the robot decide who acts. The expected results are in docs/interactive.md.
"""

from jaxpolicy.runs import recipe

from . import bc_mixture


def get_config():
    config = recipe.dagger('bc', 'detour', 'episodes', 'data/detour.npz')
    config.agent.update(bc_mixture.get_config().agent)
    config.normalize.action = 'min_max'
    config.data.num_episodes = 10
    config.loop.num_envs = 128
    config.loop.queries_per_round = 128
    config.loop.first_updates = 400
    config.loop.updates_per_round = 400
    config.loop.label_share = 0.0
    config.eval.num_episodes = 512
    config.eval.metrics = ('return', 'success_max', 'contact_max', 'length')
    return config
