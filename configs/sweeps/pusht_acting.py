"""Diffusion Policy on Push-T: what only matters for acting, on the checkpoints of the base.

  python -m experiments.sweep --sweep=configs/sweeps/pusht_acting.py --workdir=runs/pusht \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr

In the folder of `configs/sweeps/pusht_diffusion.py` the base is trained already, and is not trained
again. The recipe itself acts with a horizon of 8 and with averaged weights (EMA). The network plans
16 actions from the step of the first of two observations on, so that 15 of them lie ahead.
docs/ablations.md has the results.
"""

from jaxpolicy.sweeps import definition


def get_sweep():
    return definition.Sweep(
        recipes=('configs/pusht/ablation.py',),
        settings=('base:',),
        acting='agent.action_horizon=1,2,4,8,15 agent.act_weights=ema,raw',
        num_seeds=5,
        question='How many actions of a plan to execute, and with which weights?',
        expected='8 is best, as in the paper; averaged weights act better than the last ones',
    )
