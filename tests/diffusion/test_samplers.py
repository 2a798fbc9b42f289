"""Samplers against closed forms: a Gaussian's best denoiser is linear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.diffusion import samplers, schedules

MEAN, STD = 0.7, 0.4
K = 1000


def _denoiser(alpha_bar):
    """E[x_0 | x_k] of x_0 ~ N(MEAN, STD^2)."""
    alpha_bar = jnp.asarray(alpha_bar)

    def predict(x_k, k):
        a = alpha_bar[k]
        gain = jnp.sqrt(a) * STD**2 / (a * STD**2 + 1 - a)
        return MEAN + gain * (x_k - jnp.sqrt(a) * MEAN)

    return predict


def _ddim_line(alpha_bar, num_steps):
    """DDIM is an affine map x -> offset + slope x here; returns both: its mean and deviation."""
    x = samplers.ddim(_denoiser(alpha_bar), jnp.asarray([0.0, 1.0]), alpha_bar, num_steps)
    return float(x[0]), float(x[1] - x[0])


@pytest.mark.parametrize('schedule', schedules.SCHEDULES)
def test_ddim_recovers_mean_and_deviation(schedule):
    alpha_bar = schedules.SCHEDULES[schedule](K)
    lines = [_ddim_line(alpha_bar, num_steps) for num_steps in (1, 10, 100, K)]
    np.testing.assert_allclose(lines[-1], (MEAN, STD), rtol=0.005)
    np.testing.assert_allclose([mean for mean, _ in lines], MEAN, rtol=0.005)
    errors = [abs(std - STD) for _, std in lines]
    assert errors == sorted(errors, reverse=True)  # more steps, less error
    np.testing.assert_allclose(lines[0][1], 0.0, atol=0.01)  # one step: the mean, and no more


@pytest.mark.parametrize('schedule', schedules.SCHEDULES)
def test_ddpm_recovers_mean_and_deviation(schedule):
    alpha_bar = schedules.SCHEDULES[schedule](K)
    noise_key, key = jax.random.split(jax.random.key(0))
    n = 4000
    x = samplers.ddpm(_denoiser(alpha_bar), jax.random.normal(noise_key, (n,)), key, alpha_bar)
    # Four standard errors, and the bias of the posterior (small) variance at finite K: 1.3% here.
    assert abs(float(x.mean()) - MEAN) < 4 * STD / np.sqrt(n) + 0.002
    assert abs(float(x.std()) - STD) < STD * (4 / np.sqrt(2 * n) + 0.013)


def _predict_wavy(x_k, k):
    """Any function will do to compare loops."""
    return jnp.clip(jnp.sin(2.0 * x_k) + 0.01 * k, -1.0, 1.0)


def _eps(x, k, alpha_bar):
    x0 = np.clip(np.sin(2.0 * x) + 0.01 * k, -1.0, 1.0)
    return (x - np.sqrt(alpha_bar[k]) * x0) / np.sqrt(1 - alpha_bar[k])


def test_ddpm_equals_algorithm_2_written_with_eps():
    num_steps, key = 20, jax.random.key(1)
    alpha_bar = schedules.linear(num_steps)
    start = jax.random.normal(jax.random.key(2), (5, 3))
    x, a = np.asarray(start, np.float64), alpha_bar.astype(np.float64)
    for k in reversed(range(num_steps)):
        before = a[k - 1] if k else 1.0
        alpha = a[k] / before
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key, k), x.shape))
        sigma = np.sqrt((1 - before) / (1 - a[k]) * (1 - alpha))
        x = (x - (1 - alpha) / np.sqrt(1 - a[k]) * _eps(x, k, a)) / np.sqrt(alpha) + sigma * noise
    found = samplers.ddpm(_predict_wavy, start, key, alpha_bar)
    np.testing.assert_allclose(found, x, atol=2e-4)


@pytest.mark.parametrize('num_steps', [1, 7, 20])
def test_ddim_equals_equation_12_written_with_eps(num_steps):
    alpha_bar = schedules.linear(20)
    start = jax.random.normal(jax.random.key(3), (5, 3))
    levels = {1: [19], 7: [19, 16, 13, 10, 6, 3, 0], 20: list(range(19, -1, -1))}[num_steps]
    x, a = np.asarray(start, np.float64), alpha_bar.astype(np.float64)
    for i, k in enumerate(levels):
        after = a[levels[i + 1]] if i + 1 < num_steps else 1.0
        eps = _eps(x, k, a)
        x0 = (x - np.sqrt(1 - a[k]) * eps) / np.sqrt(a[k])
        x = np.sqrt(after) * x0 + np.sqrt(1 - after) * eps
    np.testing.assert_array_equal(samplers.timesteps(20, num_steps), levels)
    found = samplers.ddim(_predict_wavy, start, alpha_bar, num_steps)
    np.testing.assert_allclose(found, x, atol=2e-4)


def test_both_end_on_the_last_guess():
    """At level 0 nothing is left of the noise: the result is what the denoiser said last."""
    alpha_bar = schedules.squared_cosine(50)
    start = jnp.asarray([3.0, -2.0])

    def stubborn(x_k, k):
        return jnp.full_like(x_k, 0.25)

    for x in (
        samplers.ddpm(stubborn, start, jax.random.key(0), alpha_bar),
        samplers.ddim(stubborn, start, alpha_bar, 10),
    ):
        np.testing.assert_allclose(x, 0.25, atol=1e-5)


def test_ddpm_depends_on_its_key_only_through_noise():
    alpha_bar = schedules.squared_cosine(10)
    start = jnp.zeros(4)

    def sample(seed):
        return samplers.ddpm(_predict_wavy, start, jax.random.key(seed), alpha_bar)

    np.testing.assert_array_equal(sample(0), sample(0))
    assert np.abs(sample(0) - sample(1)).min() > 0


@pytest.mark.parametrize('num_steps', [0, 21])
def test_more_steps_than_were_trained_are_refused(num_steps):
    alpha_bar = schedules.linear(20)
    with pytest.raises(ValueError, match=f'expected 1 to 20.*found {num_steps}'):
        samplers.ddim(_predict_wavy, jnp.zeros(3), alpha_bar, num_steps)


@pytest.mark.parametrize('num_steps', [1, 2, 10, 999, 1000])
def test_timesteps_start_at_noise_and_never_repeat(num_steps):
    levels = samplers.timesteps(K, num_steps)
    assert levels[0] == K - 1 and len(levels) == num_steps
    assert (np.diff(levels) < 0).all()
    assert num_steps == 1 or levels[-1] == 0
