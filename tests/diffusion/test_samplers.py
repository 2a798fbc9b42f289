"""Samplers against closed forms: a Gaussian's best denoiser is linear, a mixture's is a softmax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import registry
from jaxpolicy.diffusion import objectives, process, samplers, schedules

MEAN, STD = 0.7, 0.4
K = 1000
DETERMINISTIC = ('ddim', 'euler', 'dpmpp_2m', 'heun', 'midpoint')
SAMPLERS = ('ddpm', *DETERMINISTIC)
PATHS = {
    'ddpm': objectives.make('eps', num_train_steps=K),
    'linear': objectives.make('eps', 'linear', num_train_steps=K),
    'edm': objectives.make('edm'),
    'flow': objectives.make('flow'),
}


@functools.cache
def _program(sampler, predict):
    """(x, what the sampler plans for a grid, key) -> samples; one program for all grids."""
    planned = sampler._replace(plan=lambda inputs: inputs)
    return jax.jit(lambda x, inputs, key: samplers.sample(planned, predict, x, inputs, key))


def _sample(name, predict, x, grid, key):
    sampler = registry.resolve('samplers', name, 'sampler') if isinstance(name, str) else name
    inputs = jax.tree.map(np.asarray, sampler.plan(grid))
    return np.asarray(_program(sampler, predict)(np.asarray(x), inputs, key))


def gaussian(x, level):
    """E[x_0 | x] of x_0 ~ N(MEAN, STD^2)."""
    variance = level.signal**2 * STD**2 + level.noise**2
    return MEAN + level.signal * STD**2 / variance * (x - level.signal * MEAN)


def mixture(x, level):
    """E[x_0 | x] of -1 and 1 with probabilities 1/4 and 3/4, each with a deviation of 0.1."""
    variance = level.signal**2 * 0.01 + level.noise**2
    logit = 2.0 * level.signal * x / variance + jnp.log(3.0)
    mean = jnp.tanh(0.5 * logit)
    return mean + level.signal * 0.01 / variance * (x - level.signal * mean)


def _line(sampler, path, num_steps):
    """A deterministic sampler is affine here, x -> offset + slope x: its mean and deviation."""
    grid = PATHS[path].grid(num_steps)
    noise = process.start(np.float32([0.0, 1.0]), grid)
    x = _sample(sampler, gaussian, noise, grid, jax.random.key(0))
    return float(x[0]), float(x[1] - x[0])


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('sampler', DETERMINISTIC)
def test_every_sampler_recovers_a_gaussian_on_every_path(sampler, path):
    mean, std = _line(sampler, path, 200)
    assert abs(mean - MEAN) < 0.005 and abs(std - STD) < 0.02 * STD


@pytest.mark.parametrize(
    ('sampler', 'path', 'order'),
    [
        ('euler', 'flow', 1),
        ('ddim', 'edm', 1),
        ('heun', 'flow', 2),
        ('heun', 'edm', 2),
        ('midpoint', 'flow', 2),
        ('midpoint', 'edm', 2),
    ],
)
def test_the_error_falls_with_the_order_of_the_method(sampler, path, order):
    """Twice the steps, at least 2^order times less error, in a range that float32 can tell."""
    steps = (20, 40)
    errors = [abs(_line(sampler, path, n)[1] - _exact(path, n)) for n in steps]
    found = np.log2(errors[0] / errors[1])
    assert found > order - 0.35, (found, errors)


def _exact(path, num_steps):
    """Where the exact flow takes x = 1: deviations map to deviations, at the first level too."""
    grid = PATHS[path].grid(num_steps)
    first = np.sqrt((grid.signal[0] * STD) ** 2 + grid.noise[0] ** 2)
    return float(grid.noise[0] / first * STD)


def test_dpm_solver_is_of_second_order_between_levels():
    """On one grid in log SNR, away from data, where its own order is defined."""
    errors = []
    for n in (20, 40):
        log_snr = np.linspace(-3.0, 3.0, n + 1)
        signal = np.sqrt(1.0 / (1.0 + np.exp(-2.0 * log_snr))).astype(np.float32)
        noise = np.sqrt(1.0 / (1.0 + np.exp(2.0 * log_snr))).astype(np.float32)
        grid = process.Level(signal, noise, log_snr.astype(np.float32))
        x = _sample('dpmpp_2m', gaussian, np.float32([0.0, 1.0]), grid, jax.random.key(0))
        scale = np.sqrt((signal * STD) ** 2 + noise**2)
        errors.append(abs(float(x[1] - x[0]) - scale[-1] / scale[0]))
    assert errors[0] / errors[1] > 2.6, errors  # its last step is of first order, but small


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize(
    'sampler',
    ['ddpm', pytest.param(samplers.make_ddim(eta=0.5), id='eta'), *DETERMINISTIC],
)
def test_moments_of_a_mixture(sampler, path):
    grid, n = PATHS[path].grid(100), 4000
    noise_key, key = jax.random.split(jax.random.key(0))
    x = process.start(jax.random.normal(noise_key, (n,)), grid)
    x = np.asarray(_sample(sampler, mixture, x, grid, key))
    right = x > 0
    # Four standard errors, and what 100 steps leave.
    assert abs(right.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / n) + 0.01
    for side, mean in ((right, 1.0), (~right, -1.0)):
        assert abs(x[side].mean() - mean) < 0.03
        assert abs(x[side].std() - 0.1) < 0.035


def _predict_wavy(x, level):
    """Any function will do to compare loops."""
    return jnp.clip(jnp.sin(2.0 * x) + 0.01 * level.k, -1.0, 1.0)


def _eps(x, k, alpha_bar):
    x0 = np.clip(np.sin(2.0 * x) + 0.01 * k, -1.0, 1.0)
    return (x - np.sqrt(alpha_bar[k]) * x0) / np.sqrt(1 - alpha_bar[k])


def test_ddpm_equals_algorithm_2_written_with_eps():
    num_steps, key = 20, jax.random.key(1)
    alpha_bar = schedules.linear(num_steps)
    grid = objectives.make('eps', 'linear', num_steps).grid(num_steps)
    start = jax.random.normal(jax.random.key(2), (5, 3))
    x, a = np.asarray(start, np.float64), alpha_bar.astype(np.float64)
    for i, k in enumerate(reversed(range(num_steps))):
        before = a[k - 1] if k else 1.0
        alpha = a[k] / before
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key, i), x.shape))
        sigma = np.sqrt((1 - before) / (1 - a[k]) * (1 - alpha))
        x = (x - (1 - alpha) / np.sqrt(1 - a[k]) * _eps(x, k, a)) / np.sqrt(alpha) + sigma * noise
    found = _sample('ddpm', _predict_wavy, start, grid, key)
    np.testing.assert_allclose(found, x, atol=3e-4)


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
    grid = objectives.make('eps', 'linear', 20).grid(num_steps)
    np.testing.assert_array_equal(grid.k, [*levels, 0])
    found = _sample('ddim', _predict_wavy, start, grid, jax.random.key(0))
    np.testing.assert_allclose(found, x, atol=2e-4)


def test_euler_on_the_flow_follows_the_velocity():
    grid = objectives.make('flow').grid(7)
    x = start = np.linspace(-2.0, 2.0, 9, dtype=np.float32)
    for t in np.arange(7) / 7:
        level = process.Level(t, 1 - t, 100 * (1 - t))
        x = x + (_predict_wavy(x, level) - x) / (1 - t) / 7
    found = _sample('euler', _predict_wavy, start, grid, jax.random.key(0))
    np.testing.assert_allclose(found, x, atol=1e-5)


def stubborn(x, level):
    return jnp.full_like(x, 0.25)


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_all_end_on_the_last_guess(sampler, path):
    """At data nothing is left of the noise."""
    grid = PATHS[path].grid(10)

    start = process.start(np.float32([3.0, -2.0]), grid)
    x = _sample(sampler, stubborn, start, grid, jax.random.key(0))
    np.testing.assert_allclose(x, 0.25, atol=1e-4)


@pytest.mark.parametrize('path', PATHS)
def test_errors_of_the_network_do_not_grow(path):
    """Predictions err by +1 and -1 in turn; flow's midpoint step, at most, makes 3 of it."""
    for name in DETERMINISTIC:
        for num_steps in (4, 10):
            grid = PATHS[path].grid(num_steps)
            signs = jnp.asarray([1.0, -1.0] * num_steps)
            noise = jnp.asarray(grid.noise)

            def wrong(x, level, signs=signs, noise=noise):
                return x * 0.0 + signs[jnp.argmin(jnp.abs(noise - level.noise))]

            x = process.start(jnp.zeros(1), grid)
            found = _sample(name, wrong, x, grid, jax.random.key(0))
            assert np.abs(found[0]) <= 3.1, (name, num_steps, found)


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_a_limited_sampler_stays_in_its_range(sampler):
    known = registry.resolve('samplers', sampler, 'sampler')
    predict = samplers.clipped(lambda x, level: 3.0 * jnp.sin(40.0 * x), 1.0)
    x = jax.random.normal(jax.random.key(0), (64,))
    for path in PATHS.values():
        grid = path.grid(4)
        start = process.start(x, grid)
        found = _sample(samplers.limited(known, 1.0), predict, start, grid, jax.random.key(1))
        assert np.abs(found).max() <= 1.0


def test_only_ddpm_depends_on_its_key():
    grid = PATHS['ddpm'].grid(10)
    for name in SAMPLERS:
        first, second = (
            _sample(name, _predict_wavy, np.zeros(4, np.float32), grid, jax.random.key(seed))
            for seed in (0, 1)
        )
        assert (np.abs(first - second).min() > 0) == (name == 'ddpm'), name


def test_midpoint_refuses_an_odd_number_of_intervals():
    with pytest.raises(ValueError, match='even number for midpoint, found 5'):
        _sample(
            'midpoint', gaussian, np.zeros(2, np.float32), PATHS['flow'].grid(5), jax.random.key(0)
        )


@pytest.mark.parametrize('num_steps', [1, 4, 5])
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_as_many_evaluations_as_it_says(sampler, num_steps):
    if sampler == 'midpoint' and num_steps % 2:
        pytest.skip('an odd number of intervals is refused')
    calls = []

    def counted(x, level):
        jax.debug.callback(lambda: calls.append(1))
        return 0.5 * x

    _sample(
        sampler, counted, np.ones(2, np.float32), PATHS['flow'].grid(num_steps), jax.random.key(0)
    )
    jax.effects_barrier()
    known = registry.resolve('samplers', sampler, 'sampler')
    assert len(calls) == known.num_evaluations(num_steps)


def test_somebody_elses_sampler_has_a_dotted_name():
    """The name of an object in any module stands for it, here for one of our own."""
    other = registry.resolve('samplers', 'jaxpolicy.diffusion.samplers.heun', 'agent.sampler')
    assert other is samplers.heun


def test_guidance_moves_away_from_the_unconditional_prediction():
    predict = samplers.guided(lambda x, level: 2.0, lambda x, level: 1.5, 3.0)
    assert predict(None, None) == 1.5 + 3.0 * 0.5
    predict = samplers.guided(lambda x, level: 2.0, lambda x, level: 1.5, 1.0)
    assert predict(None, None) == 2.0


INPAINTED = samplers.inpainted(gaussian, np.float32([0.3, 0.0]), np.float32([1.0, 0.0]))


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_inpainting_ends_on_what_is_known(sampler, path):
    grid = PATHS[path].grid(10)
    start = process.start(np.float32([1.5, 0.5]), grid)
    x = _sample(sampler, INPAINTED, start, grid, jax.random.key(0))
    free = _sample(sampler, gaussian, start, grid, jax.random.key(0))
    np.testing.assert_allclose(x, [0.3, free[1]], atol=1e-4)
