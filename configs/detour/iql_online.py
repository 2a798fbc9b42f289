"""IQL on detour, online, after it has learnt from demonstrations.

  python -m experiments.train --config=configs/detour/iql.py --workdir=runs/detour_iql
  python -m experiments.train --config=configs/detour/iql_online.py \
      --config.begin.workdir=runs/detour_iql --workdir=runs/detour_iql_online

Half of each minibatch is from the demonstrations that it learnt from before (those of `iql.py`).
Expected: .982 success before, .971 after 6,560 env steps. With `--config.loop.demo_share=0`, where
the first updates see only what the policy has just done, it falls to .206 there and is at .475
after 51,360; without `begin.workdir` it finds nothing in so many steps (docs/runs.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('iql', 'detour')
    config.agent.hidden = (128, 128)
    config.agent.layer_norm = True
    config.agent.tau = 0.01
    config.data.path = 'data/detour_mixed.npz'
    config.loop.demo_share = 0.5
    config.normalize.obs = 'min_max'  # with the ranges of the demonstrations
    config.loop.num_envs = 32
    config.loop.num_minibatches = 16
    config.loop.batch_size = 256
    config.loop.buffer_size = 100_000
    config.loop.learning_starts = 0  # nothing random: the policy has learnt already
    config.loop.n_step = 5
    config.loop.iterations_per_round = 50
    config.loop.num_env_steps = 50_000
    config.eval.every = 4
    config.eval.num_episodes = 512
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'contact_max', 'length')
    return config
