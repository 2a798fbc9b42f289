"""Noise schedules: alpha_bar [K], the share of signal variance left at noise level k = 0..K-1."""

import math

import numpy as np


def squared_cosine(num_steps: int) -> np.ndarray:
    """alpha_bar(t) = cos^2((t + 0.008) / 1.008 * pi / 2), through betas clipped at 0.999.

    Source: Nichol and Dhariwal, 2021 (arXiv:2102.09672), equation 17.
    """

    def curve(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2.0) ** 2

    betas = [
        min(1.0 - curve((k + 1) / num_steps) / curve(k / num_steps), 0.999)
        for k in range(num_steps)
    ]
    return np.cumprod(1.0 - np.asarray(betas)).astype(np.float32)


def linear(num_steps: int) -> np.ndarray:
    """betas from 1e-4 to 0.02 over 1000 steps, scaled by 1000 / K so that x_K is noise for any K.

    Source: Ho et al., 2020 (arXiv:2006.11239), section 4.
    """
    betas = np.linspace(1e-4, 0.02, num_steps) * 1000.0 / num_steps
    return np.cumprod(1.0 - np.minimum(betas, 0.999)).astype(np.float32)


SCHEDULES = {'squared_cosine': squared_cosine, 'linear': linear}
