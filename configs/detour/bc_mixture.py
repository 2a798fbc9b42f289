"""BC with a mixture of chunks on detour: it keeps both sides of the pillar.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/bc_mixture.py --workdir=runs/detour_bc_mixture

Expected: 99.3% success [98.6, 99.7] and no contact with the pillar in 1,024 episodes, after 13 s of
training on two CPU cores, compilation included (seed 0; docs/results.md).
"""

from . import bc


def get_config():
    config = bc.get_config()
    config.agent.head = 'mixture'
    return config
