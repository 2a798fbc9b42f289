"""PPO on MuJoCo Playground's CartpoleBalance, for two CPU cores; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/cartpole_balance.py --workdir=runs/balance

Expected for the deterministic policy: a return of 970 [941, 999], of at most 1,000, after .6
million env steps, and of 976 [946, 1006] after 1.1 million (5 seeds; docs/results.md).

The discount and the rollout length are those of Playground's own PPO
(`dm_control_suite_params.py`), which trains 2,048 environments for 60 million steps. Its reward
scale is 10; here it is 0.1. With a discount of .995 values then stay near 20, and the critic's
share of the common gradient norm stays small.
"""

from jaxpolicy.runs import recipe


def get_config(task: str = 'CartpoleBalance'):
    config = recipe.on_policy('ppo', f'playground/{task}')
    config.agent.gamma = 0.995
    config.agent.reward_scale = 0.1
    config.agent.entropy_cost = 1e-2
    config.loop.num_envs = 256
    config.loop.rollout_length = 30
    config.loop.num_env_steps = 1_000_000
    config.loop.iterations_per_round = 10
    config.eval.every = 2
    config.eval.num_episodes = 128
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'length')
    config.checkpoint.every = 2
    return config
