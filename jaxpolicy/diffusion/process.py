"""The forward process and what a network may be asked to predict.

Conventions, for the whole package: `k` is the noise level and `t` is environment time. x_0 is data
and x_K is noise. `alpha_bar` at level k gives

    x_k = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.

A network predicts `eps`, `x0` or `v` = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0
(Salimans and Ho, 2022, arXiv:2202.00512). (In flow matching, time 0 is noise and 1 is data.)
"""

import jax
import jax.numpy as jnp

TARGETS = ('eps', 'x0', 'v')


def _coefficients(alpha_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(alpha_bar), jnp.sqrt(1.0 - alpha_bar)


def add_noise(x0: jax.Array, eps: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """x_k; `alpha_bar` broadcasts against x0."""
    signal, noise = _coefficients(alpha_bar)
    return signal * x0 + noise * eps


def make_target(target: str, x0: jax.Array, eps: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """What the network should output at level k.

    Raises:
      ValueError: an unknown target.
    """
    signal, noise = _coefficients(alpha_bar)
    if target == 'eps':
        return eps
    if target == 'x0':
        return x0
    if target == 'v':
        return signal * eps - noise * x0
    raise ValueError(f'diffusion target: expected one of {TARGETS}, found {target!r}')


def to_x0(target: str, output: jax.Array, x_k: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """The x_0 that a network output implies.

    Raises:
      ValueError: an unknown target.
    """
    signal, noise = _coefficients(alpha_bar)
    if target == 'eps':
        return (x_k - noise * output) / signal
    if target == 'x0':
        return output
    if target == 'v':
        return signal * x_k - noise * output
    raise ValueError(f'diffusion target: expected one of {TARGETS}, found {target!r}')


def to_eps(x0: jax.Array, x_k: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """The noise that leads from x_0 to x_k."""
    signal, noise = _coefficients(alpha_bar)
    return (x_k - signal * x0) / noise
