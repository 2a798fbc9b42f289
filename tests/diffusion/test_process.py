import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.diffusion import process

RNG = np.random.default_rng(0)
X0, EPS = (jnp.asarray(x, jnp.float32) for x in RNG.normal(size=(2, 6, 4, 2)))
ALPHA_BAR = jnp.asarray([0.999, 0.9, 0.5, 0.2, 0.05, 0.01])[:, None, None]


def test_noising_by_hand():
    x_k = process.add_noise(jnp.asarray(2.0), jnp.asarray(-1.0), jnp.asarray(0.64))
    np.testing.assert_allclose(x_k, 0.8 * 2.0 - 0.6, rtol=1e-6)


def test_noising_keeps_unit_variance():
    x0, eps = (jnp.asarray(x, jnp.float32) for x in RNG.normal(size=(2, 20_000)))
    for alpha_bar in (0.9, 0.3):
        np.testing.assert_allclose(jnp.std(process.add_noise(x0, eps, alpha_bar)), 1.0, atol=0.03)


@pytest.mark.parametrize('target', process.TARGETS)
def test_every_target_leads_back_to_the_data(target):
    x_k = process.add_noise(X0, EPS, ALPHA_BAR)
    output = process.make_target(target, X0, EPS, ALPHA_BAR)
    assert output.shape == X0.shape
    found = process.to_x0(target, output, x_k, ALPHA_BAR)
    np.testing.assert_allclose(found, X0, atol=2e-5)
    np.testing.assert_allclose(process.to_eps(found, x_k, ALPHA_BAR), EPS, atol=2e-4)


def test_targets_by_hand():
    x0, eps, alpha_bar = jnp.asarray(2.0), jnp.asarray(-1.0), jnp.asarray(0.64)
    found = [process.make_target(name, x0, eps, alpha_bar) for name in ('eps', 'x0', 'v')]
    np.testing.assert_allclose(found, [-1.0, 2.0, 0.8 * -1.0 - 0.6 * 2.0], rtol=1e-6)


def test_unknown_targets_are_named():
    with pytest.raises(ValueError, match=r"'eps', 'x0', 'v'.*found 'score'"):
        process.make_target('score', X0, EPS, ALPHA_BAR)
    with pytest.raises(ValueError, match=r"'eps', 'x0', 'v'.*found 'score'"):
        process.to_x0('score', X0, X0, ALPHA_BAR)
