"""Samplers: from noise to data, one `lax.scan` each.

A sampler takes `predict(x_k, k) -> x_0`, the denoiser's estimate of the data (already clipped, if
the agent clips), so that it knows nothing of networks or prediction targets.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.diffusion import process

Predict = Callable[[jax.Array, jax.Array], jax.Array]


def timesteps(num_train_steps: int, num_steps: int) -> np.ndarray:
    """Noise levels to visit, from K - 1 down to 0, evenly spaced: int32 [num_steps].

    Raises:
      ValueError: more sampling steps than training steps, or fewer than one.
    """
    if not 1 <= num_steps <= num_train_steps:
        raise ValueError(
            f'sampling steps: expected 1 to {num_train_steps} (the training steps), '
            f'found {num_steps}'
        )
    return np.linspace(num_train_steps - 1, 0, num_steps).round().astype(np.int32)


def ddpm(predict: Predict, x: jax.Array, key: jax.Array, alpha_bar: np.ndarray) -> jax.Array:
    """Ancestral sampling over all K levels with the posterior (small) variance.

    Args: x: noise x_K [B, ...]; alpha_bar: [K].
    Source: Ho et al., 2020 (arXiv:2006.11239), algorithm 2 with equations 6 and 7.
    """
    num_steps = len(alpha_bar)
    alpha_bar_prev = np.concatenate([np.ones(1, np.float32), alpha_bar[:-1]])
    alpha = alpha_bar / alpha_bar_prev
    coefficient_x0 = np.sqrt(alpha_bar_prev) * (1.0 - alpha) / (1.0 - alpha_bar)
    coefficient_xk = np.sqrt(alpha) * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar)
    std = np.sqrt((1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * (1.0 - alpha))

    def step(x_k, inputs):
        k, c_x0, c_xk, sigma = inputs
        noise = jax.random.normal(jax.random.fold_in(key, k), x_k.shape)
        return c_x0 * predict(x_k, k) + c_xk * x_k + sigma * noise, None

    levels = np.arange(num_steps, dtype=np.int32)
    inputs = (levels, coefficient_x0, coefficient_xk, std)
    inputs = jax.tree.map(lambda a: jnp.asarray(a[::-1]), inputs)
    return jax.lax.scan(step, x, inputs)[0]


def ddim(predict: Predict, x: jax.Array, alpha_bar: np.ndarray, num_steps: int) -> jax.Array:
    """Deterministic implicit sampling (eta = 0) over `num_steps` of the K levels.

    The noise estimate is derived again from the (clipped) x_0, so that both stay consistent.

    Args: x: noise x_K [B, ...]; alpha_bar: [K]; num_steps: 1 to K.
    Raises ValueError: as `timesteps`.
    Source: Song et al., 2021 (arXiv:2010.02502), equation 12.
    """
    levels = timesteps(len(alpha_bar), num_steps)
    now = alpha_bar[levels]
    after = np.concatenate([now[1:], np.ones(1, np.float32)])

    def step(x_k, inputs):
        k, alpha_bar_now, alpha_bar_after = inputs
        x0 = predict(x_k, k)
        eps = process.to_eps(x0, x_k, alpha_bar_now)
        return process.add_noise(x0, eps, alpha_bar_after), None

    inputs = jax.tree.map(jnp.asarray, (levels, now, after))
    return jax.lax.scan(step, x, inputs)[0]
