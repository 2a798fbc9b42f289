"""TD3+BC on detour, from demonstrations of mixed quality: it is no better than cloning.

  python -m experiments.train --config=configs/detour/td3_bc.py --workdir=runs/detour_td3_bc \
      --seed=10 --num_seeds=3

The demonstrations are those of `iql.py`. Expected: 89.7% success [85.6, 93.8] over 3 seeds with 512
episodes each, after 44 s of training for all three on one of two cores of an AMD EPYC. With the
paper's `--config.agent.bc_weight=0.4`, where values weigh ten times as much, it is 19% [0, 61]
(commit c88cb55; docs/reinforcement-learning.md).
"""

from jaxpolicy.runs import recipe

from . import iql


def get_config():
    config = iql.small(recipe.offline_rl('td3', 'detour', 'data/detour_mixed.npz'))
    config.agent.bc_weight = 4.0  # the paper's 0.4 fails here, see above
    return config
