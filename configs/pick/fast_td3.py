"""FastTD3 on pick with its shaped reward, for a GPU.

  python -m experiments.train --config=configs/pick/fast_td3.py --workdir=runs/pick_fast_td3

The distributional critic covers [-2, 50]. Returns lie in [0, 50], because a reward is at most 1.46
and the discount is 0.97.

Expected: success .98 after 3.1 million env steps, and 92 s of training with compilation, on an H200
that three other programs shared (seed 0, 512 episodes, commit 307214e, where the actor climbed the
mean of the critics; docs/performance.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('fast_td3', 'pick')
    config.agent.min_value = -2.0
    config.agent.max_value = 50.0
    config.normalize.obs = 'running'
    config.loop.num_envs = 1024
    config.loop.num_minibatches = 2
    config.loop.batch_size = 8192
    config.loop.buffer_size = 2**20
    config.loop.learning_starts = 10 * 1024
    config.loop.iterations_per_round = 250
    config.loop.pool_size = 1024
    config.loop.num_env_steps = 3_000_000
    config.eval.every = 1
    config.eval.num_episodes = 512
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 4
    return config
