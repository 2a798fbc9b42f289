"""BC with a mixture of chunks on detour: it keeps both sides.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.train --config=configs/detour/bc_mixture.py --workdir=runs/detour_bc_mixture

Expected: 99.3% success [98.6, 99.7], 0 pillar contacts of 1,024, after 13 s of training
on two CPU cores, compilation included (seed 0; docs/results.md).
"""

from configs.detour import bc


def get_config():
    config = bc.get_config()
    config.agent.head = 'mixture'
    return config
