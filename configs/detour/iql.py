"""IQL on detour, from demonstrations of mixed quality.

  python -m experiments.collect --env=detour --num_episodes=501 --noise=0,0.3,0.6 --keep=all \
      --out=data/detour_mixed.npz
  python -m experiments.train --config=configs/detour/iql.py --workdir=runs/detour_iql \
      --seed=10 --num_seeds=3

63.5% of the demonstrations succeed. Expected: 96.4% success [93.7, 99.1] over 3 seeds with 512
episodes each, after 64 s of training for all three on one of two cores of an AMD EPYC. With
`--config.agent.beta=0`, which is cloning, it is 89.6% [86.7, 92.6] (commit c88cb55;
docs/reinforcement-learning.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    return small(recipe.offline_rl('iql', 'detour', 'data/detour_mixed.npz'))


def small(config):
    """Sets what the recipes of offline RL on detour share."""
    config.agent.hidden = (128, 128)
    config.agent.layer_norm = True
    config.agent.tau = 0.01
    config.loop.n_step = 5
    config.loop.num_updates = 6_000  # many more, and the policy learns the noise, too
    config.loop.updates_per_round = 1_000
    config.eval.every = 3
    config.eval.num_episodes = 512
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'contact_max', 'length')
    config.checkpoint.every = 3
    return config
