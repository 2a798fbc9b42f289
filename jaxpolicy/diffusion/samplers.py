"""Samplers: from noise to data along a grid of levels, in one loop.

A sampler takes `predict(x, level) -> x_0`, the denoiser's estimate of the data, and the levels that
the objective visits, `Level [S + 1]` from noise to data. It knows nothing of networks or
objectives, so that any sampler works with any of them. It is a `Sampler`, a tuple of small
functions that say what one step does, and `sample` is the loop that runs them all:

    sample(sampler, predict, x, grid, key) -> x_0,    x [B, ...] at the grid's first level.

With the probability-flow ODE written as dx = x_0 dsignal + eps dnoise, a first-order step from one
level to the next is at once DDIM, EDM's Euler step and flow matching's Euler step:
x + x_0 (signal' - signal) + eps (noise' - noise) = signal' x_0 + noise' eps.

`clipped`, `guided` and `inpainted` change what is predicted, and `limited` what is returned; they
work with every sampler.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.diffusion import process
from jaxpolicy.types import Key, PyTree

Predict = Callable[[jax.Array, process.Level], jax.Array]

_MAX_GAIN = 2.5  # of an error of x_0 in a step of the midpoint method; on flow's grids at most 2


class Sampler(NamedTuple):
    """What one step of sampling does.

    plan(grid) -> inputs: the numbers that the steps need, in numpy; the first axis of every leaf
        is the steps. It raises a ValueError for a grid that the sampler cannot use.
    init(x) -> carry: what the first step begins with.
    step(predict, carry, inputs, key) -> carry: one step, with its own inputs and its own key.
    read(carry) -> x: the sample, after the last step.
    num_evaluations(num_sample_steps) -> how often one sample calls `predict` on a grid of so many
        intervals.
    """

    plan: Callable[[process.Level], PyTree]
    init: Callable[[jax.Array], PyTree]
    step: Callable[[Predict, PyTree, PyTree, Key], PyTree]
    read: Callable[[PyTree], jax.Array]
    num_evaluations: Callable[[int], int]


def sample(
    sampler: Sampler, predict: Predict, x: jax.Array, grid: process.Level, key: Key
) -> jax.Array:
    """Runs a sampler along the grid, from x at its first level to its last one.

    Raises:
      ValueError: a grid that the sampler cannot use.
    """
    inputs = jax.tree.map(jnp.asarray, sampler.plan(grid))
    num_steps = len(jax.tree.leaves(inputs)[0])

    def step(carry, index_and_inputs):
        index, inputs = index_and_inputs
        return sampler.step(predict, carry, inputs, jax.random.fold_in(key, index)), None

    carry, _ = jax.lax.scan(step, sampler.init(x), (jnp.arange(num_steps), inputs))
    return sampler.read(carry)


def make_ddim(eta: float = 0.0) -> Sampler:
    """Implicit sampling: with `eta` = 0 it is deterministic, with 1 it is ancestral sampling.

    The noise is derived again from the predicted x_0, so that the two stay consistent when x_0 is
    clipped. On a DDPM grid the standard deviation of the added noise is that of the paper; on any
    other path it is that of the posterior between the two levels.

    Source: Song et al., 2021 (arXiv:2010.02502), equations 12 and 16.
    """

    def plan(grid):
        now, after = _pairs(grid)
        transition = np.maximum(now.noise**2 - (now.signal / after.signal * after.noise) ** 2, 0.0)
        std = (eta * after.noise / now.noise * np.sqrt(transition)).astype(np.float32)
        kept = np.sqrt(np.maximum(after.noise**2 - std**2, 0.0))  # of the derived noise
        return now, after, kept, std

    def step(predict, x, inputs, key):
        now, after, kept, std = inputs
        x0 = predict(x, now)
        x = after.signal * x0 + kept * process.to_eps(x0, x, now)
        return x + std * jax.random.normal(key, x.shape) if eta else x

    return Sampler(plan, _itself, step, _itself, num_evaluations=lambda n: n)


def _plan_dpmpp_2m(grid: process.Level):
    now, after = _pairs(grid)
    with np.errstate(divide='ignore', invalid='ignore'):
        log_snr = np.log(grid.signal.astype(np.float64)) - np.log(grid.noise.astype(np.float64))
        h = np.diff(log_snr)
        weight = np.concatenate([[0.0], 0.5 * h[1:] / h[:-1]])  # 1 / (2 r)
    weight[-1] = 0.0
    decay = now.signal * after.noise / (now.noise * after.signal)  # exp(-h)
    return now, after, weight.astype(np.float32), decay.astype(np.float32)


def _step_dpmpp_2m(predict: Predict, carry, inputs, key: Key):
    del key
    x, before = carry
    now, after, weight, decay = inputs
    x0 = predict(x, now)
    direction = x0 + weight * (x0 - before)
    x = after.noise / now.noise * x + after.signal * (1.0 - decay) * direction
    return x, x0


def _plan_heun(grid: process.Level):
    now, after = _pairs(grid)
    return now, after, np.arange(len(now.k)) == len(now.k) - 1


def _step_heun(predict: Predict, x, inputs, key: Key):
    del key
    now, after, is_last = inputs
    x0 = predict(x, now)
    eps = process.to_eps(x0, x, now)
    guess = process.add_noise(x0, eps, after)

    def correct():
        x0_after = predict(guess, after)
        eps_after = process.to_eps(x0_after, guess, after)
        return _move(x, 0.5 * (x0 + x0_after), 0.5 * (eps + eps_after), now, after)

    return jax.lax.cond(is_last, lambda: guess, correct)


def _plan_midpoint(grid: process.Level):
    if len(grid.k) % 2 == 0:
        raise ValueError(
            f'agent.num_sample_steps: expected an even number for midpoint, found {len(grid.k) - 1}'
        )
    parts = (slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2))
    now, middle, after = (jax.tree.map(lambda a, s=s: a[s], grid) for s in parts)
    # What a step multiplies by when its two predictions of x_0 differ: (d x) / (d x_0).
    gain = after.signal - now.signal - (after.noise - now.noise) * middle.signal / middle.noise
    return now, middle, after, np.abs(gain) > _MAX_GAIN


def _step_midpoint(predict: Predict, x, inputs, key: Key):
    del key
    now, middle, after, by_euler = inputs
    x0 = predict(x, now)
    x_middle = process.add_noise(x0, process.to_eps(x0, x, now), middle)
    x0 = predict(x_middle, middle)
    eps = process.to_eps(x0, x_middle, middle)
    euler = process.add_noise(x0, eps, after)  # from the middle
    return jnp.where(by_euler, euler, _move(x, x0, eps, now, after))


def _itself(x: jax.Array) -> jax.Array:
    return x


def _pairs(grid: process.Level) -> tuple[process.Level, process.Level]:
    """Where each step begins and where it ends, [S] each."""
    return jax.tree.map(lambda a: a[:-1], grid), jax.tree.map(lambda a: a[1:], grid)


def _move(x, x0, eps, now, after):
    """A step of the probability-flow ODE along a direction."""
    return x + (after.signal - now.signal) * x0 + (after.noise - now.noise) * eps


# DDIM is deterministic and of first order. Euler's method is the same: see the top of the file.
ddim = euler = make_ddim()

# DDPM is ancestral sampling with the posterior (the smaller) variance.
# Source: Ho et al., 2020 (arXiv:2006.11239), algorithm 2 with equations 6 and 7.
ddpm = make_ddim(eta=1.0)

# DPM-Solver++(2M) is of second order from two predictions, its own and that of the step before. The
# first step and the last one, to data, are of first order.
# Source: Lu et al., 2022 (arXiv:2211.01095), algorithm 2.
dpmpp_2m = Sampler(
    plan=_plan_dpmpp_2m,
    init=lambda x: (x, jnp.zeros_like(x)),
    step=_step_dpmpp_2m,
    read=lambda carry: carry[0],
    num_evaluations=lambda n: n,
)

# Heun's method is of second order and takes two predictions a step; its last step is Euler's.
# Source: Karras et al., 2022 (arXiv:2206.00364), algorithm 1.
heun = Sampler(_plan_heun, _itself, _step_heun, _itself, num_evaluations=lambda n: 2 * n - 1)

# The midpoint method is of second order; a step spans two of the grid's intervals and takes two
# predictions. Its plan raises a ValueError for a grid with an odd number of intervals.
# Where a step's middle lies next to data, the noise is derived from the small x - x_0, and then
# moves x over the whole step. Errors of the network would grow 20 times in the last step of a
# DDPM grid of 4 intervals, and 8 and 235 times in the two of EDM's. Such a step is two of Euler's.
midpoint = Sampler(_plan_midpoint, _itself, _step_midpoint, _itself, num_evaluations=lambda n: n)


def clipped(predict: Predict, limit: float) -> Predict:
    """Clips the predictions of x_0 to [-limit, limit]."""
    return lambda x, level: jnp.clip(predict(x, level), -limit, limit)


def limited(sampler: Sampler, limit: float) -> Sampler:
    """The sampler with its samples clipped to [-limit, limit].

    Where predictions are `clipped`, Heun's and the midpoint method still leave their range, as a
    second-order step goes further than to x_0.
    """
    return sampler._replace(read=lambda carry: jnp.clip(sampler.read(carry), -limit, limit))


def guided(conditional: Predict, unconditional: Predict, weight: float) -> Predict:
    """Classifier-free guidance: moves predictions away from those without the condition.

    Source: Ho and Salimans, 2022 (arXiv:2207.12598), equation 6, with `weight` = 1 + w.
    """

    def predict(x, level):
        base = unconditional(x, level)
        return base + weight * (conditional(x, level) - base)

    return predict


def inpainted(predict: Predict, known: jax.Array, weight: jax.Array) -> Predict:
    """Mixes `known` into the predictions of x_0 by `weight`, 0 to 1; both broadcast against x.

    Source: Black et al., 2025 (real-time chunking, arXiv:2506.07339); `weight` is their soft mask.
    They guide the sample by a gradient; mixing x_0 itself, as here, costs nothing.
    """
    return lambda x, level: weight * known + (1.0 - weight) * predict(x, level)
