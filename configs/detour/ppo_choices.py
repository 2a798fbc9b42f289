"""PPO on detour with the agent of the study `ppo_choices`.

  python -m experiments.train --config=configs/detour/ppo_choices.py --workdir=runs/detour_choices

It is a part of `configs/sweeps/ppo_choices_full.py`, which has not been run yet.
"""

from jaxpolicy.runs import recipe

from . import ppo


def get_config():
    config = ppo.get_config()
    init_std = config.agent.init_std
    config.agent = recipe.on_policy('experiments.studies.ppo_choices.variants', 'detour').agent
    config.agent.init_std = init_std
    config.normalize.obs = 'none'  # the agent has a normaliser of its own
    config.eval.num_episodes = 128
    config.eval.modes = ('deterministic',)
    return config
