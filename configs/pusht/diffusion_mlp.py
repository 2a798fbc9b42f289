"""Push-T's keypoints with a residual MLP, the quickest to train: what the bake-off compares with.

  python -m experiments.bake_off --config=configs/pusht/diffusion_mlp.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/bake_off_pusht \
      --num_episodes=200

The horizons, the data and the evaluation are the paper's; 3.2 M parameters, 30 epochs.
"""

from configs.pusht import diffusion_small


def get_config():
    config = diffusion_small.get_config()
    config.agent.network = 'mlp'
    config.agent.num_sample_steps = 10
    config.loop.batch_size = 128
    config.loop.num_epochs = 30
    return config
