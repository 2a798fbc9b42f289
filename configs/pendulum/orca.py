"""SAC on the pendulum, rewarded by how much of one demonstration it does, in its order (ORCA).

  python -m experiments.collect --workdir=runs/pendulum --num_episodes=1 --keep=all \
    --out=data/pendulum_one.npz
  python -m experiments.train --config=configs/pendulum/orca.py --workdir=runs/orca --num_seeds=5

The demonstrator is a run of configs/pendulum/sac.py, whose actions and rewards are not used.
Expected after 12,000 env steps, over 5 seeds with 100 episodes each: a task_reward_mean of -1.07
[-1.15, -1.00], which is a return of -215. Training all five seeds takes 74 s on one core
(docs/observation-only.md).
"""

from jaxpolicy.runs import recipe

from . import sac


def get_config():
    config = sac.small(recipe.off_policy('sac', 'pendulum'))
    config.loop.num_env_steps = 12_000
    config.imitate.path = 'data/pendulum_one.npz'
    config.imitate.length = 80  # the swing-up, and a moment upright
    config.imitate.stride = 10
    config.imitate.temperature = 2.0
    config.eval.metrics = ('return', 'task_reward_mean', 'success_final', 'length')
    return config
