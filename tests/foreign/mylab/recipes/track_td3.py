"""Our TD3 on somebody's track, of which some worlds break down."""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('td3', 'mylab.track')
    config.env.breaks, config.env.breaks_what = 0.1, 'obs'
    config.agent.hidden = (8,)
    config.loop.num_envs, config.loop.num_minibatches, config.loop.batch_size = 4, 2, 8
    config.loop.buffer_size, config.loop.learning_starts = 256, 8
    config.loop.iterations_per_round, config.loop.num_env_steps = 8, 8 + 4 * 32
    config.eval.num_episodes, config.eval.every, config.eval.modes = 8, 2, ('deterministic',)
    config.checkpoint.every = 1
    return config
