"""PPO on reach with robots that differ and are disturbed, for two CPU cores.

  python -m experiments.train --config=configs/reach/ppo_randomized.py --workdir=runs/reach_random

Every episode draws masses, controller gains and damping anew; actions arrive up to two steps late,
observations are noisy, and every joint is pushed once a second. Expected (seed 0, 1,024 episodes):
99% success at the end of the episode, where the policy of ppo.py has 41%. Both have 100% in the
plain environment (docs/randomization.md). Training takes two minutes of CPU time.
"""

from . import ppo


def get_config():
    config = ppo.get_config()
    with config.unlocked():
        config.randomize = {
            'mass': ('body_mass+body_inertia', 'scale', 'log_uniform', 0.5, 2.0),
            'gain': ('actuator_gainprm[0]+actuator_biasprm[1]', 'scale', 'log_uniform', 0.5, 2.0),
            'damping': ('dof_damping', 'scale', 'log_uniform', 0.5, 2.0),
        }
    config.disturb.action_delay = (0, 2)
    config.disturb.obs_noise = 0.01
    config.disturb.push_interval = 20
    config.disturb.push_speed = 1.0
    return config
