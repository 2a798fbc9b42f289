"""Diffusion Policy on Push-T with the paper's network, for a GPU. Not run yet.

  python -m experiments.sweep --sweep=configs/sweeps/pusht_diffusion_full.py \
      --config.data.path=PATH/pusht_cchi_v7_replay.zarr --workdir=runs/pusht_full

The base is `configs/pusht/diffusion_keypoints.py` with 500 of its 5,000 epochs, evaluated on the
device.
"""

from jaxpolicy.sweeps import definition


def settings():
    """The base, other objectives, and other numbers of demonstrations with as many updates."""
    objectives = [f'{name}: agent.objective={name}' for name in ('x0', 'v', 'flow', 'edm')]
    samplers = 'agent.sampler=dpmpp_2m agent.num_sample_steps=10'
    epochs = {10: 4500, 50: 900, 206: 220}  # of all runs about 20,000 updates
    demos = [
        f'demos_{count}: data.num_episodes={count} loop.num_epochs={number}'
        for count, number in epochs.items()
    ]
    return ('base:', *(f'{text} {samplers}' for text in objectives), *demos)


def get_sweep():
    return definition.Sweep(
        recipes=('configs/pusht/diffusion_keypoints.py',),
        overrides=('env.name=pusht', 'loop.num_epochs=500', 'eval.num_episodes=200'),
        settings=settings(),
        num_seeds=5,
        question='Do the findings of the small network hold for that of the paper?',
        expected='eps catches up, as the paper trains it; more demonstrations still help',
    )
