"""A2C on CartPole, for two CPU cores.

  python -m experiments.train --config=configs/cartpole/a2c.py --workdir=runs/cartpole_a2c \
      --num_seeds=3

Expected over 1,000 episodes on each of the seeds 0, 1 and 2: a return of 500, the largest possible,
if the policy takes its likeliest action, and 496 [483, 509] if it samples. The likeliest actions
reach 500 from 154,000 env steps of each seed on. Training takes 20 s for all seeds, most of it
compilation, on two cores of an AMD EPYC that others used as well; 70 s with evaluations and video
(docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = small(recipe.on_policy('a2c', 'cartpole'))
    config.agent.learning_rate = 3e-3
    config.loop.num_envs = 32
    config.loop.rollout_length = 16
    config.loop.iterations_per_round = 50
    config.loop.num_env_steps = 300_000
    config.eval.every = 3
    return config


def small(config):
    """Sets what the recipes of policy gradients on CartPole share."""
    config.agent.reward_scale = 0.1  # values up to 10, not 100: networks begin near 0
    config.normalize.obs = 'none'  # they are small numbers as they are
    config.checkpoint.every = 20
    config.eval.num_episodes = 100
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
