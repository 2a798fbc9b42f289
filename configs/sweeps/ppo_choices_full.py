"""PPO's correctness choices on reach and detour with large batches, for a GPU. Not run yet.

  python -m experiments.sweep --sweep=configs/sweeps/ppo_choices_full.py \
      --workdir=runs/ppo_choices_full

2,048 environments, 20 seeds and 4 million env steps for each of the six settings and two tasks.
"""

from jaxpolicy.sweeps import definition

from . import ppo_choices


def get_sweep():
    return definition.Sweep(
        recipes=('configs/reach/ppo_choices.py', 'configs/detour/ppo_choices.py'),
        overrides=(
            'loop.num_envs=2048',
            'loop.num_env_steps=4000000',
            'agent.num_minibatches=32',
            'eval.num_episodes=512',
        ),
        settings=ppo_choices.settings(),
        num_seeds=20,
        question='What is each correctness choice of PPO worth with thousands of environments?',
        expected='as on two cores: differences in how soon, and not in where runs end',
    )
