"""IQL on detour, online, after it has learnt from demonstrations.

  python -m experiments.train --config=configs/detour/iql.py --workdir=runs/detour_iql
  python -m experiments.train --config=configs/detour/iql_online.py \
      --config.begin.workdir=runs/detour_iql --workdir=runs/detour_iql_online

Without `begin.workdir` it learns from nothing, with `--config.normalize.obs=running`.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('iql', 'detour')
    config.agent.hidden = (128, 128)
    config.agent.layer_norm = True
    config.agent.tau = 0.01
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
