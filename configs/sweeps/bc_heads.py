"""Which head cloning needs where demonstrations go both ways round a pillar.

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz
  python -m experiments.sweep --sweep=configs/sweeps/bc_heads.py --workdir=runs/bc_heads
  python -m experiments.report runs/bc_heads --baseline='head=mse' --out=runs/bc_heads/report

docs/ablations.md has the results; `bc_heads_full.py` is the same with ten times the data and more
updates, for a GPU.
"""

from jaxpolicy.sweeps import definition


def get_sweep():
    return definition.Sweep(
        recipes=('configs/detour/bc.py', 'configs/detour/diffusion.py'),
        overrides=(
            'loop.num_epochs=12',
            'eval.every=4',
            'checkpoint.every=4',
            'eval.num_episodes=256',
            'eval.modes=deterministic,stochastic',
        ),
        grid='agent.head=mse,gaussian,mixture',
        num_seeds=5,
        question='Which head of cloning keeps both sides of the pillar?',
        expected='the mixture, and diffusion; squared error and the Gaussian run into the pillar',
    )
