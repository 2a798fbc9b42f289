import numpy as np
import pytest

from jaxpolicy.diffusion import schedules

CASES = [(name, k) for name in schedules.SCHEDULES for k in (10, 100, 1000)]


@pytest.mark.parametrize('name, num_steps', CASES)
def test_signal_falls_from_nearly_all_to_nearly_none(name, num_steps):
    alpha_bar = schedules.SCHEDULES[name](num_steps)
    assert alpha_bar.shape == (num_steps,) and alpha_bar.dtype == np.float32
    assert (np.diff(alpha_bar) < 0).all()
    assert 0 < alpha_bar[-1] < 1e-3
    assert 1 - alpha_bar[0] < 0.5 / num_steps**0.5
    assert alpha_bar[0] < 1


def test_squared_cosine_by_hand():
    # cos^2((1/2 + .008) / 1.008 pi/2) / cos^2(.008 / 1.008 pi/2), then a step with beta = .999
    alpha_bar = schedules.squared_cosine(2)
    np.testing.assert_allclose(alpha_bar, [0.49384354, 0.00049384], rtol=1e-4)


def test_squared_cosine_is_the_formula_until_the_clip():
    t = np.arange(1, 101) / 100
    curve = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = curve / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedules.squared_cosine(100)[:-1], expected[:-1], rtol=1e-4)


def test_linear_is_ddpms_at_1000_steps():
    alpha_bar = schedules.linear(1000)
    np.testing.assert_allclose(alpha_bar[0], 1 - 1e-4, rtol=1e-6)
    np.testing.assert_allclose(alpha_bar[1] / alpha_bar[0], 1 - (1e-4 + 0.0199 / 999), rtol=1e-5)
    # E.g. DDPM's well-known last value, sqrt(alpha_bar) = 0.00635
    np.testing.assert_allclose(np.sqrt(alpha_bar[-1]), 0.00635, rtol=2e-3)
