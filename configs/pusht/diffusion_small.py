"""A small diffusion policy on Push-T's human demonstrations, with keypoints, for two CPU cores.

  python -m experiments.train --config=configs/pusht/diffusion_small.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_small

The horizons, the data and the evaluation are the paper's. Four things differ: the U-Net has a
twelfth of the paper's parameters (5.4 M), it predicts x_0, all 206 episodes are used, and DDIM
samples in 16 steps.

Expected: a score of .955 (best checkpoint) and .951 (last) on the seeds 100000 to 100049, and .950
[.925, .975] on 200 fresh seeds, after 27 minutes of training on two busy CPU cores (seed 0;
docs/results.md). The paper has .95 (best).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline(
        'diffusion', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr'
    )
    config.agent.dims = (64, 128, 256)
    config.agent.objective = 'x0'
    config.agent.learning_rate = 3e-4
    config.agent.sampler = 'ddim'
    config.agent.num_sample_steps = 16
    config = small(config)
    config.loop.batch_size = 64
    config.loop.num_epochs = 40
    config.eval.every = 4
    config.checkpoint.every = 4
    return config


def small(config):
    """Sets what the small recipes of Push-T share."""
    config.normalize.action = 'min_max'
    config.eval.score = 'score_max'
    config.eval.metrics = ('score_max', 'success_max', 'coverage_final', 'length')
    config.checkpoint.keep_last = 10
    return config
