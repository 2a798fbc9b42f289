"""PPO on the pendulum with the agent of the study `ppo_choices`.

  python -m experiments.train --config=configs/pendulum/ppo_choices.py --workdir=runs/pendulum_ppo

Nothing but the time limit ends an episode of the pendulum, all rewards are below zero, and the
observation does not tell the time. Episodes are half as long as Gymnasium's, so that more of them
end while it learns. Expected: see docs/ablations.md.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.on_policy('experiments.studies.ppo_choices.variants', 'pendulum')
    config.normalize.obs = 'none'  # the agent has a normaliser of its own
    config.env.episode_steps = 100
    config.agent.hidden = (64, 64)
    config.agent.gamma = 0.98
    config.agent.reward_scale = 0.1
    config.agent.init_std = 1.0
    config.agent.num_epochs = 8
    config.loop.num_envs = 64
    config.loop.rollout_length = 32
    config.loop.num_env_steps = 163_840
    config.loop.iterations_per_round = 5
    config.eval.every = 1
    config.eval.num_episodes = 128
    config.eval.modes = ('deterministic',)
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 20
    return config
