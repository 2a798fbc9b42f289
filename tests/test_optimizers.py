import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy import optimizers

RATE, WARMUP, TOTAL = 0.1, 4, 12


def _steps(tx, num_steps, grad=0.3):
    """How far one weight moves in each step; by exactly the rate, for gradients that never vary."""
    params = jnp.zeros(())
    state, moved = tx.init(params), []
    update = jax.jit(tx.update)
    for _ in range(num_steps):
        updates, state = update(jnp.asarray(grad), state, params)
        moved.append(-float(updates))
    return np.array(moved)


@pytest.mark.parametrize('total', [TOTAL, 0])
def test_the_rate_warms_up_and_then_decays_or_stays(total):
    tx = optimizers.adamw_cosine(RATE, 0.0, WARMUP, total, 1.0)
    step = np.arange(15)
    decayed = RATE * 0.5 * (1 + np.cos(np.pi * np.clip((step - WARMUP) / (TOTAL - WARMUP), 0, 1)))
    expected = np.where(step < WARMUP, RATE * step / WARMUP, decayed if total else RATE)
    np.testing.assert_allclose(_steps(tx, 15), expected, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    tx = optimizers.adamw_cosine(RATE, 0.0, 1, 0, max_grad_norm=1.0)
    params = {'a': jnp.zeros(2), 'b': jnp.zeros(())}
    for scale, expected in ((10.0, 1.0), (0.1, 0.5)):
        grads = {'a': scale * jnp.asarray([3.0, 0.0]), 'b': scale * jnp.asarray(4.0)}
        _, state = tx.update(grads, tx.init(params), params)
        first = optax.tree.get(state, 'mu')  # (1 - .95) times the gradient that Adam saw
        seen = expected * np.array([0.6, 0.0, 0.8])
        found = np.append(np.asarray(first['a']), first['b']) / 0.05
        np.testing.assert_allclose(found, seen, rtol=1e-4, atol=1e-7)


def test_weight_decay_is_decoupled():
    tx = optimizers.adamw_cosine(RATE, 0.5, 1, 0, 1.0)
    params = jnp.asarray(2.0)
    _, state = tx.update(jnp.zeros(()), tx.init(params), params)
    updates, _ = tx.update(jnp.zeros(()), state, params)
    np.testing.assert_allclose(updates, -RATE * 0.5 * 2.0, rtol=1e-5)


def test_one_norm_clips_all_networks():
    grads = {'actor': {'w': jnp.asarray([3.0, 0.0])}, 'critic': jnp.asarray([[0.0, 4.0]])}
    clipped, norm = optimizers.clip_by_global_norm(grads, 1.0)
    assert norm == 5.0
    np.testing.assert_allclose(clipped['actor']['w'], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped['critic'], [[0.0, 0.8]], rtol=1e-6)
    same, _ = optimizers.clip_by_global_norm(grads, 5.5)
    jax.tree.map(np.testing.assert_array_equal, same, grads)
    zero, norm = optimizers.clip_by_global_norm(jax.tree.map(jnp.zeros_like, grads), 1.0)
    assert norm == 0.0 and all((leaf == 0.0).all() for leaf in jax.tree.leaves(zero))


def test_the_rate_that_is_set_is_the_one_that_steps():
    tx = optimizers.adam_with_rate(0.1)
    states = {name: tx.init(jnp.zeros(())) for name in ('actor', 'critic')}
    assert float(optimizers.rate(states)) == pytest.approx(0.1)
    states = optimizers.set_rate(states, jnp.asarray(0.02))
    for state in states.values():
        updates, _ = tx.update(jnp.asarray(0.3), state)
        np.testing.assert_allclose(updates, -0.02, rtol=1e-4)


def test_a_norm_of_0_does_not_clip():
    grads = {'w': jnp.full(3, 100.0)}
    clipped, norm = optimizers.clip_by_global_norm(grads, 0.0)
    np.testing.assert_array_equal(clipped['w'], grads['w'])
    np.testing.assert_allclose(norm, 100.0 * np.sqrt(3.0), rtol=1e-6)
    tx = optimizers.adamw_cosine(1e-3, 0.0, 0, 0, 0.0)
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert jnp.isfinite(updates['w']).all()
    tx = optimizers.adamw_cosine(1e-3, 0.0, 1, 0, 0.0)
    state = tx.init(grads)
    for _ in range(2):  # the first update has the rate 0
        updates, state = tx.update(grads, state, grads)
    assert (updates['w'] < -1e-4).all()
