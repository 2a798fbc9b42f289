"""The heads of cloning with ten times the demonstrations and more epochs, for a GPU. Not run yet.

python -m experiments.collect --env=detour --num_episodes=10000 --out=data/detour_10000.npz
python -m experiments.sweep --sweep=configs/sweeps/bc_heads_full.py --workdir=runs/bc_heads_full
"""

import dataclasses

from . import bc_heads


def get_sweep():
    sweep = bc_heads.get_sweep()
    shorter = ('loop.num_epochs', 'eval.every', 'checkpoint.every', 'eval.num_episodes')
    kept = [text for text in sweep.overrides if text.split('=')[0] not in shorter]
    longer = ('loop.num_epochs=100', 'eval.every=10', 'checkpoint.every=10')
    data = ('data.path=data/detour_10000.npz', 'eval.num_episodes=1024')
    return dataclasses.replace(
        sweep,
        overrides=(*kept, *longer, *data),
        num_seeds=10,
        expected='as with 1,000 demonstrations, as the mean of two sides stays wrong',
    )
