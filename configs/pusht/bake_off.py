"""Push-T's keypoints with a small U-Net and few epochs, on which the bake-off compares methods.

  python -m experiments.studies.bake_off --config=configs/pusht/bake_off.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/bake_off_pusht \
      --num_episodes=200

The horizons, the data and the evaluation are the paper's; the U-Net has 2.0 M parameters. An MLP is
quicker still, but learns a flow far more slowly (.34 after 30 epochs). The expected results are in
docs/diffusion.md.
"""

from . import diffusion_small


def get_config():
    config = diffusion_small.get_config()
    config.agent.dims = (32, 64, 128)
    config.agent.learning_rate = 6e-4
    config.agent.warmup_updates = 200
    config.agent.num_sample_steps = 10
    config.loop.batch_size = 128
    config.loop.num_epochs = 14
    return config
