"""The linear agent on the track, from a table of demonstrations, in a weakened world."""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('mylab_linear', 'mylab.track', 'mylab.table', 'demos.csv')
    config.wrap = (('mylab.wrappers.weaken', {'factor': 0.9}),)
    config.normalize.obs = 'none'
    config.loop.batch_size = 64
    config.loop.num_epochs = 60
    config.eval.every = 20
    config.eval.num_episodes = 64
    config.checkpoint.every = 1
    return config
