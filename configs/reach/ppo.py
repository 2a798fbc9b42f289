"""PPO on reach, for two CPU cores.

  python -m experiments.train --config=configs/reach/ppo.py --workdir=runs/reach

`--config.env.num_dof=6` trains the 6-DoF arm. Expected: 100% success over 1,024 episodes on each of
the seeds 0, 1 and 2 (and with 6 DoF on seed 0), after 60 to 105 s of training on two CPU cores,
compilation included (docs/results.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.on_policy('ppo', 'reach')
    config.loop.num_env_steps = 1_600_000
    config.loop.iterations_per_round = 5
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.num_episodes = 1024
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
