"""What each of PPO's correctness choices is worth on the pendulum, which only a time limit ends.

  python -m experiments.sweep --sweep=configs/sweeps/ppo_choices_pendulum.py \
      --workdir=runs/ppo_choices_pendulum
  python -m experiments.report runs/ppo_choices_pendulum --baseline=ours \
      --out=runs/ppo_choices_pendulum/report

docs/ablations.md has the results.
"""

from jaxpolicy.sweeps import definition

from . import ppo_choices


def get_sweep():
    return definition.Sweep(
        recipes=('configs/pendulum/ppo_choices.py',),
        settings=ppo_choices.settings(),
        num_seeds=10,
        question='What is each correctness choice of PPO worth where only time ends an episode?',
        expected='bootstrapping at the time limit matters most, as all rewards are below zero',
    )
