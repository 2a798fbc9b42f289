"""Two learning rates of SAC on the pendulum, three seeds each: a sweep to try the commands with.

  python -m experiments.sweep --sweep=configs/sweeps/pendulum.py --workdir=runs/pendulum_sweep
  python -m experiments.watch runs/pendulum_sweep

Expected: returns of -170.9, -166.7 and -166.3 with 1e-3, and of -173.0, -176.8 and -169.2 with 3e-4
(20 episodes each). Three seeds are too few to tell these apart. The two runs take 56 s of one core
together, with compiled programs from the cache.
"""

from jaxpolicy.sweeps import definition


def get_sweep():
    return definition.Sweep(
        recipes=('configs/pendulum/sac.py',),
        overrides=('loop.num_env_steps=8000', 'eval.num_episodes=20', 'checkpoint.every=2'),
        grid='agent.learning_rate=3e-4,1e-3',
        num_seeds=3,
        question='Does the pendulum need a learning rate above the usual 3e-4 in 8,000 env steps?',
        expected='no: both end near -170, though 1e-3 is ahead after 5,000 env steps',
    )
