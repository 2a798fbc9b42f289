"""Updates for each env step times critics, as far as REDQ goes, for a GPU. Not run yet.

  python -m experiments.sweep --sweep=configs/sweeps/sac_updates_full.py --workdir=runs/sac_full

REDQ's own setting is 20 updates for each step, ten critics and an actor that climbs their mean.
"""

from jaxpolicy.sweeps import definition


def get_sweep():
    return definition.Sweep(
        recipes=('configs/reach/sac.py',),
        overrides=('loop.num_env_steps=100000', 'loop.iterations_per_round=50'),
        grid=(
            'loop.num_minibatches=4,16,64,256,1280 agent.num_critics=2,5,10 '
            'agent.mean_value=False,True'
        ),
        num_seeds=10,
        question='How many updates for each step pay, and with how many critics?',
        expected='with two critics more updates stop paying, and with ten they go on to',
    )
