import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.ops import returns

T, N = 13, 6


def _rollout(seed, consistent=False):
    """Random arrays [T, N]; `consistent`: next_value is the next step's value inside an episode."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, T, N))
    termination = rng.random((T, N)) < 0.2
    truncation = rng.random((T, N)) < 0.2  # on some steps both
    if consistent:
        inside = ~(termination | truncation)[:-1]
        next_value[:-1] = np.where(inside, value[1:], next_value[:-1])
    return [x.astype(np.float32) for x in (reward, value, next_value, termination, truncation)]


def _by_hand(reward, value, next_value, termination, truncation, valid, gamma, lambda_):
    advantages = np.zeros((T, N))
    for n in range(N):
        later = 0.0
        for t in reversed(range(T)):
            bootstrap = 0.0 if termination[t, n] else next_value[t, n]
            delta = reward[t, n] + gamma * bootstrap - value[t, n]
            goes_on = not (termination[t, n] or truncation[t, n])
            later = delta + (gamma * lambda_ * later if goes_on else 0.0)
            later = later if valid[t, n] else 0.0
            advantages[t, n] = later
    return advantages


@pytest.mark.parametrize('gamma, lambda_', [(0.99, 0.95), (0.9, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize('seed', range(3))
def test_gae_equals_a_loop(seed, gamma, lambda_):
    arrays = _rollout(seed)
    valid = (np.random.default_rng(seed + 100).random((T, N)) < 0.8).astype(np.float32)
    found = returns.gae(*arrays, gamma, lambda_, valid)
    expected = _by_hand(*arrays, valid, gamma, lambda_)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    everything = np.ones((T, N))
    np.testing.assert_allclose(
        returns.gae(*arrays, gamma, lambda_),
        _by_hand(*arrays, everything, gamma, lambda_),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize('seed', range(3))
def test_lambda_one_is_monte_carlo(seed):
    """The return is the discounted rewards up to the end, and the value of where it truncated."""
    gamma = 0.9
    arrays = _rollout(seed, consistent=True)
    reward, value, next_value, termination, truncation = arrays
    expected = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            end = next((s for s in range(t, T) if termination[s, n] or truncation[s, n]), T - 1)
            expected[t, n] = sum(gamma ** (s - t) * reward[s, n] for s in range(t, end + 1))
            if not termination[end, n]:
                expected[t, n] += gamma ** (end + 1 - t) * next_value[end, n]
    np.testing.assert_allclose(returns.gae(*arrays, gamma, 1.0) + value, expected, atol=1e-5)


def test_lambda_zero_is_the_one_step_error():
    reward, value, next_value, termination, truncation = arrays = _rollout(0)
    expected = reward + 0.9 * (1 - termination) * next_value - value
    np.testing.assert_allclose(returns.gae(*arrays, 0.9, 0.0), expected, rtol=1e-6)


def test_truncation_bootstraps_and_termination_does_not():
    """Reward 1 for ever is worth 1 / (1 - gamma); a time limit must not change that."""
    gamma = 0.9
    one, worth = jnp.ones((4, 1)), jnp.full((4, 1), 1 / (1 - gamma))
    last = jnp.zeros((4, 1)).at[-1].set(1.0)
    zero = jnp.zeros((4, 1))
    truncated = returns.gae(one, worth, worth, zero, last, gamma, 0.95)
    np.testing.assert_allclose(truncated, 0.0, atol=1e-5)
    terminated = returns.gae(one, worth, worth, last, zero, gamma, 1.0)
    finite = np.array([[1 + 0.9 + 0.81 + 0.729], [2.71], [1.9], [1.0]])
    np.testing.assert_allclose(terminated + worth, finite, rtol=1e-5)


def test_a_truncated_step_uses_its_own_next_value_and_nothing_of_the_next_episode():
    arrays = _rollout(1)
    arrays[3][:], arrays[4][:] = 0.0, 0.0
    arrays[4][5] = 1.0  # everybody truncates at step 5
    before = returns.gae(*arrays, 0.9, 0.95)
    changed = [x.copy() for x in arrays]
    for x in changed[:3]:
        x[6:] += 100.0
    after = returns.gae(*changed, 0.9, 0.95)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert (before[6:] != after[6:]).all()
    changed[2][5] += 1.0
    moved = returns.gae(*changed, 0.9, 0.95)
    np.testing.assert_allclose(moved[5] - after[5], 0.9, rtol=1e-5)


def test_invalid_steps_enter_no_other():
    arrays = _rollout(2)
    valid = np.ones((T, N), np.float32)
    valid[7, ::2] = 0.0
    before = returns.gae(*arrays, 0.9, 0.95, valid)
    for x in arrays[:3]:
        x[7, ::2] = 1e6
    after = returns.gae(*arrays, 0.9, 0.95, valid)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(after[7, ::2], 0.0)
    assert np.abs(after[7, 1::2]).min() > 0


def test_shapes_are_checked():
    arrays = _rollout(0)
    arrays[1] = arrays[1][:-1]
    with pytest.raises(AssertionError):
        jax.eval_shape(lambda *a: returns.gae(*a, 0.9, 0.95), *arrays)


def _returns_by_hand(reward, next_value, termination, truncation, valid, gamma):
    found, known = np.zeros((2, T, N))
    for n in range(N):
        for t in range(T):
            ends = (s for s in range(t, T) if termination[s, n] or truncation[s, n])
            end = next(ends, None)
            if end is None or not valid[t : end + 1, n].all():
                continue
            known[t, n] = 1.0
            found[t, n] = sum(gamma ** (s - t) * reward[s, n] for s in range(t, end + 1))
            if not termination[end, n]:
                found[t, n] += gamma ** (end + 1 - t) * next_value[end, n]
    return found, known


@pytest.mark.parametrize('gamma', [1.0, 0.9])
@pytest.mark.parametrize('seed', range(3))
def test_monte_carlo_equals_a_loop(seed, gamma):
    reward, _, *others = _rollout(seed)
    for share in (1.0, 0.9):
        valid = (np.random.default_rng(seed + 100).random((T, N)) < share).astype(np.float32)
        found = returns.monte_carlo(reward, *others, gamma, valid)
        expected = _returns_by_hand(reward, *others, valid, gamma)
        assert 0.3 < expected[1].mean() < 1.0
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        if share == 1.0:  # which is what counts if nothing is said
            jax.tree.map(
                np.testing.assert_array_equal, returns.monte_carlo(reward, *others, gamma), found
            )


def test_monte_carlo_by_hand():
    """Four steps: one episode is terminated at the second, the next one truncated, or goes on."""
    reward = jnp.asarray([[1.0], [2.0], [4.0], [8.0]])
    next_value = jnp.asarray([[50.0], [60.0], [70.0], [16.0]])
    ended, last = jnp.zeros((2, 4, 1)).at[0, 1].set(1.0).at[1, 3].set(1.0)
    found, known = returns.monte_carlo(reward, next_value, ended, last, 0.5)
    np.testing.assert_array_equal(found[:, 0], [2.0, 2.0, 4.0 + 0.5 * 8.0 + 0.25 * 16.0, 16.0])
    np.testing.assert_array_equal(known[:, 0], 1.0)
    found, known = returns.monte_carlo(reward, next_value, ended, jnp.zeros((4, 1)), 0.5)
    np.testing.assert_array_equal(found[:, 0], [2.0, 2.0, 0.0, 0.0])
    np.testing.assert_array_equal(known[:, 0], [1.0, 1.0, 0.0, 0.0])
