"""Diffusion Policy on Push-T, one factor at a time: objective, and number of demonstrations.

  python -m experiments.sweep --sweep=configs/sweeps/pusht_diffusion.py --workdir=runs/pusht \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr
  python -m experiments.report runs/pusht --baseline=base --out=runs/pusht/report

All settings make about 3,000 updates, however many demonstrations there are. What matters only for
acting, the action horizon and the averaged weights, is evaluated on the same checkpoints:

  python -m experiments.evaluate --workdir=runs/pusht/runs/base-... --checkpoint=latest \
      --override=agent.action_horizon=16 --name=horizon_16

docs/ablations.md has the results; `pusht_diffusion_full.py` is the paper's size, for a GPU.
"""

from jaxpolicy.sweeps import definition

# Demonstrations: epochs of a round, of which there are four. 206 demonstrations have 378 batches.
EPOCHS = {10: 41, 50: 8, 100: 4}


def settings():
    """The base, other objectives, and fewer demonstrations."""
    objectives = [f'{name}: agent.objective={name}' for name in ('eps', 'v', 'flow', 'edm')]
    fewer = [
        f'demos_{count}: data.num_episodes={count} loop.epochs_per_round={epochs} '
        f'loop.num_epochs={4 * epochs}'
        for count, epochs in EPOCHS.items()
    ]
    return ('base:', *objectives, *fewer)


def get_sweep():
    return definition.Sweep(
        recipes=('configs/pusht/ablation.py',),
        settings=settings(),
        num_seeds=5,
        question='Which objective and how many demonstrations does a small policy need?',
        expected='x0 above v, flow and eps at so few updates; 10 demonstrations are too few',
    )
