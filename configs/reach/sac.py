"""SAC on reach, for two CPU cores.

  python -m experiments.train --config=configs/reach/sac.py --workdir=runs/reach_sac --num_seeds=5

Expected: success .67 [.27, 1.0] after 21,248 env steps, .95 [.88, 1.0] after 27,648 and .995 [.98,
1.0] after 40,448 (mean and 95% interval over five seeds, 256 episodes each). Training all five
seeds takes 3.4 minutes of one core, compilation included (docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = small(recipe.off_policy('sac', 'reach'))
    config.loop.num_env_steps = 40_000
    return config


def small(config):
    """Sets what the recipes of SAC on reach share."""
    config.agent.hidden = (128, 128)
    config.agent.learning_rate = 1e-3
    config.agent.gamma = 0.95
    config.agent.tau = 0.01
    config.normalize.obs = 'running'
    config.loop.num_envs = 64
    config.loop.num_minibatches = 16
    config.loop.batch_size = 128
    config.loop.iterations_per_round = 100
    config.loop.num_env_steps = 100_000
    config.eval.every = 1
    config.eval.num_episodes = 256
    config.eval.modes = ('deterministic',)
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
