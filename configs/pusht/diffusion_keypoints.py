"""Diffusion Policy on Push-T's human demonstrations, with keypoints: the paper's recipe, for a GPU.

  python -m experiments.train --config=configs/pusht/diffusion_keypoints.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_diffusion

Expected: the paper reports a score of 0.95 (best checkpoint) and 0.91 (mean of the last 10) over 50
episodes. Here only a twentieth of the recipe has been run, which reached .874 (docs/results.md).

Source: Chi et al., 2023 (arXiv:2303.04137), tables 1 and 7, and the shipped low-dimensional config:
U-Net 256-512-1024, kernel 5, DDPM with 100 steps, squared cosine, eps, batch 256, AdamW 1e-4 with
weight decay 1e-6, EMA power 0.75, min-max to [-1, 1], 90 of the 206 episodes.
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.offline(
        'diffusion', 'pusht_gym', 'pusht_zarr', 'data/pusht_cchi_v7_replay.zarr'
    )
    config.data.num_episodes = 90
    config.normalize.action = 'min_max'
    config.loop.num_epochs = 5000
    config.loop.epochs_per_round = 10
    config.eval.every = 50
    config.checkpoint.every = 50
    config.checkpoint.keep_last = 10
    config.eval.score = 'score_max'
    config.eval.metrics = ('score_max', 'success_max', 'coverage_final', 'length')
    return config
