"""SAC on reach with a sparse reward, which is 1 within 3 cm of the goal, for two CPU cores.

  python -m experiments.train --config=configs/reach/sac_sparse.py --workdir=runs/reach_sparse \
    --num_seeds=5

Expected: success .02 after 78,848 env steps and .25 [.00, .63] after 104,448 (mean and 95% interval
over five seeds, 256 episodes each); the five seeds have .00, .59, .00, .08 and .56. With
`--config.env.tolerance=0.05` random actions find goals often enough: success is .00 before 40,000
steps, but .98 [.95, 1.0] at the end. Training all five seeds takes 5 minutes of one core. Compare
configs/reach/sac_hindsight.py (docs/off-policy.md).
"""

from jaxpolicy.runs import recipe

from . import sac


def get_config():
    config = sac.small(recipe.off_policy('sac', 'reach'))
    config.env.reward = 'sparse'
    config.env.tolerance = 0.03
    return config
