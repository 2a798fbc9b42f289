"""PPO on reach with the agent of the study `ppo_choices`, which configs/sweeps/ppo_choices.py runs.

  python -m experiments.train --config=configs/reach/ppo_choices.py --workdir=runs/reach_choices

The numbers are those of `configs/reach/ppo.py`, with fewer env steps and more evaluations.
Expected: see docs/ablations.md.
"""

from jaxpolicy.runs import recipe

from . import ppo


def get_config():
    config = ppo.get_config()
    name = 'experiments.studies.ppo_choices.variants'
    config.agent = recipe.on_policy(name, 'reach').agent
    config.normalize.obs = 'none'  # the agent has a normaliser of its own
    config.loop.num_env_steps = 409_600
    config.loop.iterations_per_round = 5
    config.eval.every = 1
    config.eval.num_episodes = 128
    config.eval.modes = ('deterministic',)
    config.checkpoint.every = 20
    return config
