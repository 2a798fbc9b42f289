import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.ops import losses


def test_masked_mean():
    x = jnp.asarray([1.0, 2.0, 30.0])
    assert losses.masked_mean(x, jnp.asarray([1, 1, 0])) == 1.5
    assert losses.masked_mean(x, jnp.asarray([False, True, False])) == 2.0
    assert losses.masked_mean(x, jnp.zeros(3)) == 0.0
    with pytest.raises(AssertionError):
        losses.masked_mean(x, jnp.ones((3, 1)))  # would broadcast


def test_masked_normalize_leaves_masked_entries_out_and_at_zero():
    x = jnp.asarray([1.0, 3.0, 500.0, 5.0])
    mask = jnp.asarray([1.0, 1.0, 0.0, 1.0])
    std = np.sqrt(8 / 3)
    found = losses.masked_normalize(x, mask)
    np.testing.assert_allclose(found, np.array([-2, 0, 0, 2]) / std, rtol=1e-6)
    np.testing.assert_array_equal(found, losses.masked_normalize(x.at[2].set(-7.0), mask))
    np.testing.assert_array_equal(losses.masked_normalize(jnp.full(3, 4.0), jnp.ones(3)), 0.0)


def test_chunk_mse():
    target = jnp.zeros((2, 2, 2))
    prediction = jnp.asarray([[[1.0, 3.0], [2.0, 0.0]], [[1.0, 1.0], [50.0, 50.0]]])
    mask = jnp.asarray([[True, True], [True, False]])
    loss, metrics = losses.chunk_mse(prediction, target, mask)
    np.testing.assert_allclose(loss, (5 + 2 + 1) / 3)  # the mean over dimensions, then over steps
    assert metrics['mse'] == loss


def test_policy_gradient():
    """Its gradient to the log-probabilities is -A / n, and none goes into the advantages."""
    log_prob, advantage = jnp.asarray([-1.0, -2.0, -3.0]), jnp.asarray([2.0, -1.0, 70.0])
    mask = jnp.asarray([1.0, 1.0, 0.0])
    loss, metrics = losses.policy_gradient(log_prob, advantage, mask)
    np.testing.assert_allclose(loss, -(-2.0 + 2.0) / 2, atol=1e-6)
    assert metrics['policy_loss'] == loss
    loss_fn = jax.grad(losses.policy_gradient, argnums=(0, 1), has_aux=True)
    (to_log_prob, to_advantage), _ = loss_fn(log_prob, advantage, mask)
    np.testing.assert_allclose(to_log_prob, [-1.0, 0.5, 0.0])
    np.testing.assert_array_equal(to_advantage, 0.0)


def test_ppo_clip_in_all_four_corners():
    ratio = jnp.asarray([1.5, 0.5, 1.5, 0.5, 1.1])
    advantage = jnp.asarray([1.0, 1.0, -1.0, -1.0, 2.0])
    old = jnp.full(5, -0.3)
    surrogate = [1.2, 0.5, -1.5, -0.8, 2.2]

    def loss_fn(log_prob, mask):
        return losses.ppo_clip(log_prob, old, advantage, 0.2, mask)

    loss, metrics = loss_fn(old + jnp.log(ratio), jnp.ones(5))
    np.testing.assert_allclose(loss, -np.mean(surrogate), rtol=1e-5)
    np.testing.assert_allclose(metrics['ratio'], np.mean(ratio), rtol=1e-5)
    np.testing.assert_allclose(metrics['clip_fraction'], 4 / 5)
    # d/dlog p of ratio * A is ratio * A; 0 where clipping is on
    grad = jax.grad(loss_fn, has_aux=True)(old + jnp.log(ratio), jnp.ones(5))[0]
    np.testing.assert_allclose(grad, -np.array([0, 0.5, -1.5, 0, 2.2]) / 5, rtol=1e-5)
    mask = jnp.asarray([1.0, 1.0, 0.0, 0.0, 0.0])
    loss, metrics = loss_fn(old + jnp.log(ratio), mask)
    np.testing.assert_allclose(loss, -(1.2 + 0.5) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics['ratio'], 1.0, rtol=1e-5)
    np.testing.assert_allclose(metrics['clip_fraction'], 1.0)


def test_value_mse():
    value, target = jnp.asarray([1.0, 2.0, 9.0]), jnp.asarray([3.0, 1.0, -5.0])
    mask = jnp.asarray([1.0, 1.0, 0.0])
    loss, metrics = losses.value_mse(value, target, mask)
    np.testing.assert_allclose(loss, 0.5 * (4 + 1) / 2)
    # residual 2.5 and variance 1 of the targets 3 and 1
    np.testing.assert_allclose(metrics['explained_variance'], 1 - 2.5 / 1.0)
    _, perfect = losses.value_mse(target, target, mask)
    assert perfect['explained_variance'] == 1.0


def test_expectile():
    value, target = jnp.asarray([1.0, 2.0, 9.0]), jnp.asarray([3.0, 1.0, -5.0])
    mask = jnp.asarray([1.0, 1.0, 0.0])
    loss, _ = losses.expectile(value, target, 0.9, mask)
    np.testing.assert_allclose(loss, (0.9 * 2**2 + 0.1 * 1**2) / 2, rtol=1e-6)

    def loss_fn(value, target):
        return losses.expectile(value, target, 0.9, mask)[0]

    grads = jax.grad(loss_fn, argnums=(0, 1))(value, target)
    np.testing.assert_allclose(grads[0], [-0.9 * 2, 0.1, 0], rtol=1e-6)
    np.testing.assert_array_equal(grads[1], 0)
    # level 0.5 is half the squared error
    half, _ = losses.expectile(value, target, 0.5, mask)
    np.testing.assert_allclose(half, losses.value_mse(value, target, mask)[0], rtol=1e-6)
