"""What a denoiser learns: on which path it predicts what, and how x_0 follows from that.

    eps, x0, v   DDPM's discrete levels k = 0..K-1 with alpha_bar: signal = sqrt(alpha_bar), noise =
                 sqrt(1 - alpha_bar); v = signal eps - noise x_0. Ho et al., 2020
                 (arXiv:2006.11239); Salimans and Ho, 2022 (arXiv:2202.00512).
    edm          x = x_0 + sigma eps, scaled so that the network's inputs and targets have variance
                 1 for every sigma. Karras et al., 2022 (arXiv:2206.00364), table 1.
    flow         rectified flow, x = t x_0 + (1 - t) eps, whose velocity x_0 - eps is learnt. Liu et
                 al., 2022 (arXiv:2209.03003); Lipman et al., 2022 (arXiv:2210.02747).

All minimise the plain squared error of the network's output. Levels are drawn uniformly, in EDM
log-normally. Any sampler works with any objective.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.diffusion import process, schedules
from jaxpolicy.types import Key

OBJECTIVES = ('eps', 'x0', 'v', 'edm', 'flow')
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = 0.5, 0.002, 80.0, 7.0  # EDM, table 1
P_MEAN, P_STD = -1.2, 1.2  # of ln sigma while training, the same table
K_MAX = 100.0  # the k that a network is told at pure noise, with 'edm' and 'flow'


class Objective(NamedTuple):
    """How to train a denoiser and how to read it.

    draw(key, num) -> Level [num], at which to train
    grid(num_steps) -> Level [num_steps + 1], numpy, along which to sample, from noise to data
    scale(level): what x is multiplied by before the network sees it
    target(x0, eps, level): what the network should output for x
    to_x0(output, x, level): the x_0 that the network's output implies
    """

    draw: Callable[[Key, int], process.Level]
    grid: Callable[[int], process.Level]
    scale: Callable[[process.Level], jax.Array]
    target: Callable[[jax.Array, jax.Array, process.Level], jax.Array]
    to_x0: Callable[[jax.Array, jax.Array, process.Level], jax.Array]


def make(name: str, schedule: str = 'squared_cosine', num_train_steps: int = 100) -> Objective:
    """The objective of a name; `schedule` and `num_train_steps` matter to eps, x0 and v only.

    Raises:
      ValueError: an unknown objective or schedule.
    """
    if name not in OBJECTIVES:
        raise ValueError(f'agent.objective: expected one of {OBJECTIVES}, found {name!r}')
    if schedule not in schedules.SCHEDULES:
        known = tuple(schedules.SCHEDULES)
        raise ValueError(f'agent.schedule: expected one of {known}, found {schedule!r}')
    if name == 'edm':
        return _edm()
    if name == 'flow':
        return _flow()
    return _ddpm(name, schedules.SCHEDULES[schedule](num_train_steps))


def _ddpm(target: str, alpha_bar: np.ndarray) -> Objective:
    levels = process.Level(
        signal=np.sqrt(alpha_bar),
        noise=np.sqrt(1.0 - alpha_bar),
        k=np.arange(len(alpha_bar), dtype=np.float32),
    )

    def draw(key, num):
        k = jax.random.randint(key, (num,), 0, len(alpha_bar))
        return jax.tree.map(lambda x: jnp.asarray(x)[k], levels)

    def grid(num_steps):
        return with_data(jax.tree.map(lambda x: x[timesteps(len(alpha_bar), num_steps)], levels))

    targets = {
        'eps': lambda x0, eps, level: eps,
        'x0': lambda x0, eps, level: x0,
        'v': lambda x0, eps, level: level.signal * eps - level.noise * x0,
    }
    to_x0 = {
        'eps': lambda output, x, level: (x - level.noise * output) / level.signal,
        'x0': lambda output, x, level: output,
        'v': lambda output, x, level: level.signal * x - level.noise * output,
    }
    return Objective(draw, grid, _one, targets[target], to_x0[target])


def timesteps(num_train_steps: int, num_steps: int) -> np.ndarray:
    """The levels that sampling visits, evenly spaced from K - 1 down to 0: int32 [num_steps].

    Raises:
      ValueError: more sampling steps than training steps, or fewer than one.
    """
    if not 1 <= num_steps <= num_train_steps:
        raise ValueError(
            f'agent.num_sample_steps: expected 1 to {num_train_steps} (agent.num_train_steps), '
            f'found {num_steps}'
        )
    return np.linspace(num_train_steps - 1, 0, num_steps).round().astype(np.int32)


def _edm() -> Objective:
    def level(sigma):
        span = np.log(SIGMA_MAX / SIGMA_MIN)
        return process.Level(jnp.ones_like(sigma), sigma, K_MAX * jnp.log(sigma / SIGMA_MIN) / span)

    def draw(key, num):
        return level(jnp.exp(P_MEAN + P_STD * jax.random.normal(key, (num,))))

    def grid(num_steps):  # equation 5
        roots = np.linspace(SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO), _least(num_steps))
        sigma = (roots**RHO).astype(np.float32)
        k = K_MAX * np.log(sigma / SIGMA_MIN) / np.log(SIGMA_MAX / SIGMA_MIN)
        return with_data(process.Level(np.ones_like(sigma), sigma, k))

    def scale(level):  # c_in
        return 1.0 / jnp.sqrt(level.noise**2 + SIGMA_DATA**2)

    def skip_and_out(level):  # c_skip, c_out
        total = level.noise**2 + SIGMA_DATA**2
        return SIGMA_DATA**2 / total, level.noise * SIGMA_DATA / jnp.sqrt(total)

    def target(x0, eps, level):  # equation 8, whose weighted error is a plain one of this target
        c_skip, c_out = skip_and_out(level)
        return (x0 - c_skip * process.add_noise(x0, eps, level)) / c_out

    def to_x0(output, x, level):  # equation 7
        c_skip, c_out = skip_and_out(level)
        return c_skip * x + c_out * output

    return Objective(draw, grid, scale, target, to_x0)


def _flow() -> Objective:
    def draw(key, num):
        t = jax.random.uniform(key, (num,))
        return process.Level(t, 1.0 - t, K_MAX * (1.0 - t))

    def grid(num_steps):
        t = np.linspace(0.0, 1.0, _least(num_steps) + 1, dtype=np.float32)
        return process.Level(t, 1.0 - t, K_MAX * (1.0 - t))

    def target(x0, eps, level):
        return x0 - eps

    def to_x0(output, x, level):
        return x + level.noise * output

    return Objective(draw, grid, _one, target, to_x0)


def with_data(levels: process.Level) -> process.Level:
    """Appends the level of pure data to levels [S]."""
    data = process.Level(1.0, 0.0, 0.0)
    return jax.tree.map(lambda x, end: np.append(x, end).astype(np.float32), levels, data)


def _one(level: process.Level) -> jax.Array:
    return jnp.ones_like(level.signal)


def _least(num_steps: int) -> int:
    if num_steps < 1:
        raise ValueError(f'agent.num_sample_steps: expected at least 1, found {num_steps}')
    return num_steps
