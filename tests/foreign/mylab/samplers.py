"""A sampler: every step goes all the way to the predicted data, and the last one counts."""

import numpy as np

from jaxpolicy.diffusion import samplers

last_prediction = samplers.Sampler(
    plan=lambda grid: grid.replace(
        **{name: np.asarray(leaf[:-1]) for name, leaf in vars(grid).items()}
    ),
    init=lambda x: (x, x),
    step=lambda predict, carry, level, key: (carry[0], predict(carry[0], level)),
    read=lambda carry: carry[1],
    num_evaluations=lambda num_sample_steps: num_sample_steps,
)
