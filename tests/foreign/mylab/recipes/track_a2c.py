"""Our A2C on somebody's track, of which some worlds break down."""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.on_policy('a2c', 'mylab_track')
    config.env.breaks = 0.02
    config.agent.hidden = (16,)
    config.loop.num_envs = 32
    config.loop.rollout_length = 8
    config.loop.iterations_per_round = 10
    config.loop.num_env_steps = 4 * 2560
    config.eval.every = 4
    config.eval.modes = ('deterministic',)
    config.checkpoint.every = 1
    return config
