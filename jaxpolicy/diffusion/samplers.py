"""Samplers: from noise to data along a grid of levels, one `lax.scan` each.

A sampler takes `predict(x, level) -> x_0`, the denoiser's estimate of the data, and the levels that
the objective visits, `Level [S + 1]` from noise to data. It knows nothing of networks or
objectives, so that any sampler works with any of them. All have the same signature,

    sampler(predict, x, grid, key) -> x_0,    x [B, ...] at the grid's first level,

and the deterministic ones ignore the key. With the probability-flow ODE written as dx = x_0 dsignal
+ eps dnoise, a first-order step from one level to the next is at once DDIM, EDM's Euler step and
flow matching's Euler step: x + x_0 (signal' - signal) + eps (noise' - noise) = signal' x_0 + noise'
eps.

`clipped`, `guided` and `inpainted` change what is predicted, and work with every sampler.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.diffusion import process
from jaxpolicy.types import Key

Predict = Callable[[jax.Array, process.Level], jax.Array]
Sampler = Callable[[Predict, jax.Array, process.Level, Key], jax.Array]


def ddim(
    predict: Predict, x: jax.Array, grid: process.Level, key: Key, eta: float = 0.0
) -> jax.Array:
    """Implicit sampling; `eta` = 0 is deterministic, 1 is ancestral sampling.

    The noise is derived again from the predicted x_0, so that both stay consistent when it is
    clipped. On a DDPM grid the standard deviation is that of the paper; on any other path it is
    that of the posterior between the two levels.

    Source: Song et al., 2021 (arXiv:2010.02502), equations 12 and 16.
    """
    now, after = _pairs(grid)
    transition = np.maximum(now.noise**2 - (now.signal / after.signal * after.noise) ** 2, 0.0)
    std = (eta * after.noise / now.noise * np.sqrt(transition)).astype(np.float32)
    kept = np.sqrt(np.maximum(after.noise**2 - std**2, 0.0))  # of the noise that was there

    def step(x, inputs):
        i, now, after, kept, std = inputs
        x0 = predict(x, now)
        x = after.signal * x0 + kept * process.to_eps(x0, x, now)
        if eta:
            x = x + std * jax.random.normal(jax.random.fold_in(key, i), x.shape)
        return x, None

    inputs = (np.arange(len(std)), now, after, kept, std)
    return jax.lax.scan(step, x, jax.tree.map(jnp.asarray, inputs))[0]


def ddpm(predict: Predict, x: jax.Array, grid: process.Level, key: Key) -> jax.Array:
    """Ancestral sampling with the posterior (small) variance: DDIM with eta = 1.

    Source: Ho et al., 2020 (arXiv:2006.11239), algorithm 2 with equations 6 and 7.
    """
    return ddim(predict, x, grid, key, eta=1.0)


def dpmpp_2m(predict: Predict, x: jax.Array, grid: process.Level, key: Key) -> jax.Array:
    """DPM-Solver++(2M): second order from two predictions, one of them of the step before.

    The first step and the last one, to data, are of first order.

    Source: Lu et al., 2022 (arXiv:2211.01095), algorithm 2.
    """
    del key
    now, after = _pairs(grid)
    with np.errstate(divide='ignore', invalid='ignore'):
        log_snr = np.log(grid.signal.astype(np.float64)) - np.log(grid.noise.astype(np.float64))
        h = np.diff(log_snr)
        weight = np.concatenate([[0.0], 0.5 * h[1:] / h[:-1]])  # 1 / (2 r)
    weight[-1] = 0.0
    decay = now.signal * after.noise / (now.noise * after.signal)  # exp(-h)

    def step(carry, inputs):
        x, before = carry
        now, after, weight, decay = inputs
        x0 = predict(x, now)
        direction = x0 + weight * (x0 - before)
        x = after.noise / now.noise * x + after.signal * (1.0 - decay) * direction
        return (x, x0), None

    inputs = (now, after, weight.astype(np.float32), decay.astype(np.float32))
    start = (x, jnp.zeros_like(x))
    return jax.lax.scan(step, start, jax.tree.map(jnp.asarray, inputs))[0][0]


def heun(predict: Predict, x: jax.Array, grid: process.Level, key: Key) -> jax.Array:
    """Heun's method: second order, two predictions a step but for the last one, which is Euler's.

    Source: Karras et al., 2022 (arXiv:2206.00364), algorithm 1.
    """
    del key
    now, after = _pairs(grid)

    def step(x, inputs):
        now, after = inputs
        x0 = predict(x, now)
        eps = process.to_eps(x0, x, now)
        guess = process.add_noise(x0, eps, after)
        x0_after = predict(guess, after)
        eps_after = process.to_eps(x0_after, guess, after)
        return _move(x, 0.5 * (x0 + x0_after), 0.5 * (eps + eps_after), now, after), None

    inner = jax.tree.map(lambda a: jnp.asarray(a[:-1]), (now, after))
    x = jax.lax.scan(step, x, inner)[0]
    return predict(x, jax.tree.map(lambda a: jnp.asarray(a[-1]), now))


def midpoint(predict: Predict, x: jax.Array, grid: process.Level, key: Key) -> jax.Array:
    """The midpoint method: second order; two of the grid's intervals, two predictions, are a step.

    Raises:
      ValueError: the grid has an odd number of intervals.
    """
    del key
    if len(grid.k) % 2 == 0:
        raise ValueError(
            f'sampling steps: expected an even number for midpoint, found {len(grid.k) - 1}'
        )
    first, middle, last = (
        jax.tree.map(lambda a, s=s: jnp.asarray(a[s]), grid)
        for s in (slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2))
    )

    def step(x, inputs):
        now, middle, after = inputs
        x0 = predict(x, now)
        x_middle = process.add_noise(x0, process.to_eps(x0, x, now), middle)
        x0 = predict(x_middle, middle)
        return _move(x, x0, process.to_eps(x0, x_middle, middle), now, after), None

    return jax.lax.scan(step, x, (first, middle, last))[0]


euler = ddim  # see the top of the file
SAMPLERS: dict[str, Sampler] = {
    'ddpm': ddpm,
    'ddim': ddim,
    'dpmpp_2m': dpmpp_2m,
    'heun': heun,
    'euler': euler,
    'midpoint': midpoint,
}


def clipped(predict: Predict, limit: float) -> Predict:
    """Predictions of x_0 within [-limit, limit]."""
    return lambda x, level: jnp.clip(predict(x, level), -limit, limit)


def guided(conditional: Predict, unconditional: Predict, weight: float) -> Predict:
    """Classifier-free guidance: away from what is predicted without the condition.

    Source: Ho and Salimans, 2022 (arXiv:2207.12598), equation 6, with `weight` = 1 + w.
    """

    def predict(x, level):
        base = unconditional(x, level)
        return base + weight * (conditional(x, level) - base)

    return predict


def inpainted(predict: Predict, known: jax.Array, weight: jax.Array) -> Predict:
    """Predictions in which `known` counts with `weight`, 0 to 1, both broadcast against x.

    Source: Black et al., 2025 (real-time chunking, arXiv:2506.07339), whose soft mask `weight` is;
    they guide by a gradient, here x_0 is replaced, at no cost.
    """
    return lambda x, level: weight * known + (1.0 - weight) * predict(x, level)


def _pairs(grid: process.Level) -> tuple[process.Level, process.Level]:
    """Where each step begins and where it ends, [S] each."""
    return jax.tree.map(lambda a: a[:-1], grid), jax.tree.map(lambda a: a[1:], grid)


def _move(x, x0, eps, now, after):
    """A step of the probability-flow ODE along a direction."""
    return x + (after.signal - now.signal) * x0 + (after.noise - now.noise) * eps
