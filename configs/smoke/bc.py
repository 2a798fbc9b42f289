"""BC (mixture) on Push-T on the device, with a few updates, for tests.

  python -m experiments.train --config=configs/smoke/bc.py --config.data.path=FILE --workdir=DIR

FILE holds any episodes with Push-T's keypoints. Expected: it takes seconds and learns nothing.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline('bc', 'pusht', 'episodes', 'data/pusht.npz')
    config.agent.head = 'mixture'
    config.agent.width = 16
    config.agent.num_blocks = 1
    config.normalize.action = 'min_max'
    config.augment.obs_noise = 0.01
    return shrink(config)


def shrink(config):
    """Leaves four rounds of a few updates, evaluated on two episodes of three environment steps."""
    config.env.episode_steps = 3
    config.loop.batch_size = 32
    config.loop.num_epochs = 4
    config.eval.num_episodes = 2
    config.eval.every = 4
    config.checkpoint.every = 1
    return config
