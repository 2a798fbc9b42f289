"""Probability distributions as tuples of arrays."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

_LOG_2PI = math.log(2.0 * math.pi)


def _gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Log density of each coordinate."""
    z = (x - mean) * jnp.exp(-log_std)
    return -0.5 * (z**2 + _LOG_2PI) - log_std


class Gaussian(NamedTuple):
    """Diagonal Gaussian over the last axis; mean and log_std [..., D]."""

    mean: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density of x [..., D], summed over D."""
        return jnp.sum(_gaussian_log_prob(x, self.mean, self.log_std), axis=-1)

    def mode(self) -> jax.Array:
        return self.mean

    def entropy(self) -> jax.Array:
        """Nats, summed over D."""
        return jnp.sum(self.log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)

    def kl(self, other: 'Gaussian') -> jax.Array:
        """KL(self || other) in nats, summed over D."""
        ratio = jnp.exp(2.0 * (self.log_std - other.log_std))
        shift = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return 0.5 * jnp.sum(ratio + shift - 1.0 + 2.0 * (other.log_std - self.log_std), axis=-1)


class TanhGaussian(NamedTuple):
    """tanh(u) of a diagonal Gaussian u over the last axis, which has mean and log_std [..., D].

    Source: Haarnoja et al., 2018 (arXiv:1812.05905), appendix C.
    """

    mean: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return jnp.tanh(Gaussian(*self).sample(key))

    def sample_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample [..., D] and its log density, summed over D; tanh is not inverted."""
        inner = Gaussian(*self)
        u = inner.sample(key)
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which stays finite for large u.
        slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return jnp.tanh(u), inner.log_prob(u) - jnp.sum(slope, axis=-1)

    def mode(self) -> jax.Array:
        """tanh of the mean, which is the median: the mode of the density has no formula."""
        return jnp.tanh(self.mean)


class Categorical(NamedTuple):
    """One of M choices, as a one-hot action [..., M] of int8; logits [..., M], finite."""

    logits: jax.Array

    def _one_hot(self, choice: jax.Array) -> jax.Array:
        return jax.nn.one_hot(choice, self.logits.shape[-1], dtype=jnp.int8)

    def sample(self, key: jax.Array) -> jax.Array:
        return self._one_hot(jax.random.categorical(key, self.logits))

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log probability of one-hot x [..., M]."""
        return jnp.sum(x * jax.nn.log_softmax(self.logits), axis=-1)

    def mode(self) -> jax.Array:
        return self._one_hot(jnp.argmax(self.logits, axis=-1))

    def entropy(self) -> jax.Array:
        """Nats."""
        log_prob = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_prob) * log_prob, axis=-1)


class Mixture(NamedTuple):
    """M diagonal Gaussians over the last axis; logits [..., M], mean and log_std [..., M, D]."""

    logits: jax.Array
    mean: jax.Array
    log_std: jax.Array

    def _pick(self, component: jax.Array) -> Gaussian:
        index = component[..., None, None]
        mean = jnp.take_along_axis(self.mean, index, axis=-2)[..., 0, :]
        log_std = jnp.take_along_axis(self.log_std, index, axis=-2)[..., 0, :]
        return Gaussian(mean, log_std)

    def sample(self, key: jax.Array) -> jax.Array:
        component_key, noise_key = jax.random.split(key)
        return self._pick(jax.random.categorical(component_key, self.logits)).sample(noise_key)

    def log_prob(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Log density of x [..., D]; coordinates with mask 0 are integrated out."""
        each = _gaussian_log_prob(x[..., None, :], self.mean, self.log_std)
        if mask is not None:
            each = each * mask[..., None, :]
        log_weight = jax.nn.log_softmax(self.logits)
        return jax.nn.logsumexp(log_weight + jnp.sum(each, axis=-1), axis=-1)

    def mode(self) -> jax.Array:
        """The mean of the likeliest component: the mode of the density has no formula."""
        return self._pick(jnp.argmax(self.logits, axis=-1)).mean


def project(returns: jax.Array, probs: jax.Array, atoms: jax.Array) -> jax.Array:
    """Projects a distribution over any returns onto evenly spaced atoms, and keeps its mean.

    Each return shares its probability between the two atoms beside it, more to the nearer one.
    Returns beyond the atoms count as the outermost atom, which does change the mean.

    Args:
      returns, probs: [..., K], the returns and their probabilities.
      atoms: [K'], increasing.

    Returns:
      the probabilities of the atoms, [..., K'].

    Source: Bellemare et al., 2017 (arXiv:1707.06887), equation 7.
    """
    gap = atoms[1] - atoms[0]
    returns = jnp.clip(returns, atoms[0], atoms[-1])
    share = jnp.clip(1.0 - jnp.abs(returns[..., None] - atoms) / gap, 0.0, 1.0)
    return jnp.sum(share * probs[..., None], axis=-2)
