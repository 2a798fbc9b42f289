"""REINFORCE with a learnt baseline on CartPole, for two CPU cores.

  python -m experiments.train --config=configs/cartpole/reinforce.py \
      --workdir=runs/cartpole_reinforce --num_seeds=3

Expected, of 1,000 episodes on each of seeds 0, 1, 2: a return of 500 (all there is) for the
policy's modes and for its samples, from 80,000 steps a seed on. 22 s of training for all seeds on
two cores of an AMD EPYC that others used as well, most of it compilation; 62 s with evaluations and
video.
"""

from configs import base
from configs.cartpole import a2c


def get_config():
    config = a2c.small(base.on_policy('reinforce', 'cartpole'))
    config.agent.learning_rate = 1e-2
    config.agent.num_baseline_steps = 5
    config.loop.num_envs = 4
    config.loop.rollout_length = 1000  # two of the longest episodes; see agents.reinforce
    config.loop.iterations_per_round = 5
    config.loop.num_env_steps = 200_000
    config.eval.every = 2
    return config
