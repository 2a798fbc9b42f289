import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.diffusion import objectives, process

RNG = np.random.default_rng(0)


def test_noising_by_hand_and_back():
    level = process.Level(jnp.asarray([0.8, 0.5]), jnp.asarray([0.6, 2.0]), jnp.zeros(2))
    x0, eps = jnp.asarray([2.0, 3.0]), jnp.asarray([-1.0, 0.5])
    x = process.add_noise(x0, eps, level)
    np.testing.assert_allclose(x, [0.8 * 2.0 - 0.6, 1.5 + 1.0], rtol=1e-6)
    np.testing.assert_allclose(process.to_eps(x0, x, level), eps, rtol=1e-6)


def test_levels_broadcast_over_rows():
    level = objectives.make('flow').draw(jax.random.key(0), 6)
    x0, eps = (jnp.asarray(x, jnp.float32) for x in RNG.normal(size=(2, 6, 4, 2)))
    wide = process.each(level, x0)
    assert wide.signal.shape == (6, 1, 1)
    x = process.add_noise(x0, eps, wide)
    row = jax.tree.map(lambda a: a[3], level)
    np.testing.assert_allclose(x[3], process.add_noise(x0[3], eps[3], row), rtol=1e-6)


def test_sampling_starts_with_the_deviation_of_the_first_level():
    eps = jnp.asarray([1.0, -2.0])
    np.testing.assert_allclose(process.start(eps, objectives.make('edm').grid(5)), 80.0 * eps)
    np.testing.assert_allclose(process.start(eps, objectives.make('flow').grid(5)), eps)
    np.testing.assert_allclose(process.start(eps, objectives.make('v').grid(5)), eps, rtol=1e-4)
