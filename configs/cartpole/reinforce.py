"""REINFORCE with a learnt baseline on CartPole, for two CPU cores.

  python -m experiments.train --config=configs/cartpole/reinforce.py \
      --workdir=runs/cartpole_reinforce --num_seeds=3

Expected over 1,000 episodes on each of the seeds 0, 1 and 2: a return of 500, the largest possible,
whether the policy takes its likeliest action or samples, from 80,000 env steps of each seed on.
Training takes 22 s for all seeds, most of it compilation, on two cores of an AMD EPYC that others
used as well; 62 s with evaluations and video (docs/off-policy.md).
"""

from jaxpolicy.runs import recipe

from . import a2c


def get_config():
    config = a2c.small(recipe.on_policy('reinforce', 'cartpole'))
    config.agent.learning_rate = 1e-2
    config.agent.num_baseline_steps = 5
    config.loop.num_envs = 4
    config.loop.rollout_length = 1000  # two of the longest episodes; see agents.reinforce
    config.loop.iterations_per_round = 5
    config.loop.num_env_steps = 200_000
    config.eval.every = 2
    return config
