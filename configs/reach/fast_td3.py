"""FastTD3 on reach, small enough for two CPU cores.

  python -m experiments.train --config=configs/reach/fast_td3.py --workdir=runs/reach_fast_td3

Expected: success .59 after 53,760 env steps, .991 after 79,360 and 1.0 from 130,560 on (3 seeds,
256 episodes each; two busy cores of an AMD EPYC, commit 2c5b3ac). With the mean of the critics in
place of the least, seed 0 alone had .91 after 51,200 and 1.0 from 76,800 on (commit 307214e).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('fast_td3', 'reach')
    config.agent.actor_hidden = (128, 128)
    config.agent.critic_hidden = (256, 128)
    config.agent.gamma = 0.95
    config.agent.min_value = -20.0
    config.agent.max_value = 20.0
    config.agent.learning_rate = 1e-3
    config.normalize.obs = 'running'
    config.loop.num_envs = 256
    config.loop.num_minibatches = 8
    config.loop.batch_size = 512
    config.loop.buffer_size = 200_000
    config.loop.learning_starts = 2_560
    config.loop.iterations_per_round = 50
    config.loop.num_env_steps = 200_000
    config.eval.every = 2
    config.eval.num_episodes = 256
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
