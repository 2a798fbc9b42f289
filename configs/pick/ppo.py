"""PPO on pick with its shaped reward, for two CPU cores.

  python -m experiments.train --config=configs/pick/ppo.py --workdir=runs/pick

Where JAX has one CPU device, MuJoCo's C engine simulates the physics (`--config.env.backend=mjx`
uses MJX instead). Expected: success .79 after 2.0 million env steps and .98 [.94, 1.0] after 3.0
million (5 seeds, 128 episodes each). Two idle cores make about 13,000 env steps a second, so that
one seed takes 4 minutes (docs/results.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.on_policy('ppo', 'pick')
    config.loop.num_envs = 512
    config.loop.num_env_steps = 3_000_000
    config.loop.iterations_per_round = 10
    config.eval.every = 5
    config.checkpoint.every = 5
    config.eval.num_episodes = 512
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    return config
