import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.ops import normalize

SPEC = {
    'arm': jax.ShapeDtypeStruct((3,), jnp.float32),
    'image': jax.ShapeDtypeStruct((2, 2), jnp.float32),
}


def _data(seed, *lead):
    rng = np.random.default_rng(seed)
    return {
        'arm': rng.normal(3.0, 2.0, size=(*lead, 3)).astype(np.float32),
        'image': rng.normal(-5.0, 0.5, size=(*lead, 2, 2)).astype(np.float32),
    }


def _close(found, expected, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), found, expected)


def test_min_max_maps_the_range_to_plus_minus_one():
    data = _data(0, 50)
    x = normalize.apply(normalize.fit_min_max(data), data)
    for leaf in jax.tree.leaves(x):
        np.testing.assert_allclose(leaf.min(0), -1.0, rtol=1e-5)
        np.testing.assert_allclose(leaf.max(0), 1.0, rtol=1e-5)
    hand = normalize.fit_min_max(jnp.asarray([[0.0, 10.0], [4.0, 20.0], [1.0, 12.0]]))
    np.testing.assert_allclose(
        normalize.apply(hand, jnp.asarray([3.0, 10.0])), [0.5, -1.0], rtol=1e-6
    )


@pytest.mark.parametrize('dtype', ['uint8', 'int8', 'int32', 'float16', 'bool'])
def test_min_max_takes_every_dtype(dtype):
    low, high = {'int8': (-100, 120), 'int32': (2**30, 2**31 - 1), 'bool': (0, 1)}.get(
        dtype, (10, 250)
    )
    data = jnp.asarray(np.array([[low], [high], [low]]).astype(dtype))
    fitted = normalize.fit_min_max(data)
    np.testing.assert_allclose(fitted.shift, [(low + high) / 2], rtol=1e-6)
    np.testing.assert_allclose(normalize.apply(fitted, data)[:2, 0], [-1.0, 1.0], rtol=1e-5)


def test_a_constant_dimension_is_shifted_and_not_divided():
    data = jnp.asarray([[7.0, 0.0], [7.0, 2.0]])
    fitted = normalize.fit_min_max(data)
    np.testing.assert_array_equal(normalize.apply(fitted, data), [[0.0, -1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(normalize.apply(fitted, jnp.asarray([8.0, 1.0])), [1.0, 0.0])
    stats = normalize.update(normalize.welford(data[0]), data, jnp.ones(2))
    np.testing.assert_allclose(
        normalize.apply(normalize.affine(stats), data), [[0, -1], [0, 1]], atol=1e-6
    )


def test_invert_undoes_apply():
    data = _data(1, 4, 5)
    fitted = normalize.fit_min_max(_data(2, 20))
    _close(normalize.invert(fitted, normalize.apply(fitted, data)), data, rtol=1e-4, atol=1e-5)


def test_identity_changes_nothing():
    data = _data(3, 4)
    _close(normalize.apply(normalize.identity(SPEC), data), data, rtol=0)


def test_apply_clips_and_makes_floats():
    fitted = normalize.identity(jnp.zeros(2))
    x = normalize.apply(fitted, jnp.asarray([200, 3], jnp.uint8), clip=10.0)
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x, [10.0, 3.0])
    np.testing.assert_array_equal(
        normalize.apply(fitted, jnp.asarray([-200.0, 3.0]), clip=10.0), [-10.0, 3.0]
    )


def _kept(batches, masks, name):
    return np.concatenate([b[name][m] for b, m in zip(batches, masks, strict=True)])


def test_welford_equals_numpy_over_masked_batches():
    """Batches [T, N] of different sizes, one of them fully masked; masked entries are wild."""
    rng = np.random.default_rng(4)
    batches = [_data(i, t, 3) for i, t in enumerate((5, 2, 7))]
    masks = [rng.random((t, 3)) < 0.7 for t in (5, 2, 7)]
    masks[1][:] = False
    stats = normalize.welford(SPEC)
    for batch, mask in zip(batches, masks, strict=True):
        dirty = {
            k: np.where(mask[(...,) + (None,) * (x.ndim - 2)], x, 1e4) for k, x in batch.items()
        }
        stats = normalize.update(stats, dirty, jnp.asarray(mask, jnp.float32))
    assert stats.count == sum(m.sum() for m in masks)
    fitted = normalize.affine(stats)
    for name in SPEC:
        kept = _kept(batches, masks, name).astype(np.float64)
        np.testing.assert_allclose(stats.mean[name], kept.mean(0), rtol=1e-5)
        np.testing.assert_allclose(fitted.shift[name], kept.mean(0), rtol=1e-5)
        np.testing.assert_allclose(fitted.scale[name], kept.std(0), rtol=1e-4)


def test_entries_that_do_not_count_may_be_anything():
    data, mask = _data(8, 6), jnp.asarray([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    clean = normalize.update(normalize.welford(SPEC), data, mask)
    for junk in (np.nan, np.inf, 1e30):
        dirty = jax.tree.map(lambda x: x.copy(), data)
        for x in dirty.values():
            x[2], x[4] = junk, -junk
        found = normalize.update(normalize.welford(SPEC), dirty, mask)
        jax.tree.map(np.testing.assert_array_equal, found, clean)


def test_counts_may_outgrow_float32():
    """2^31 samples seen, and batches of 100 whose count float32 cannot add to that any more."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(100, 1))
    x = (x - x.mean()) / x.std() * np.sqrt(1.9) + 5.0  # exactly mean 5 and variance 1.9
    batch = jnp.asarray(x, jnp.float32)
    start = normalize.Welford(jnp.float32(2.0**31), jnp.asarray([5.0]), jnp.asarray([1.9]))
    assert start.count + jnp.float32(100) == start.count

    @jax.jit
    def run(stats, batch):
        def step(stats, _):
            return normalize.update(stats, batch, jnp.ones(100)), None

        return jax.lax.scan(step, stats, None, length=200_000)[0]

    found = normalize.affine(run(start, batch))
    np.testing.assert_allclose(found.shift, 5.0, rtol=1e-5)
    np.testing.assert_allclose(found.scale, np.sqrt(1.9), rtol=1e-5)
    # and they still follow data that changes: by (1 - 100 / 2^31)^200,000
    moved = run(start, batch + 100.0)
    kept = (1 - 100 / 2.0**31) ** 200_000
    np.testing.assert_allclose(moved.mean, 105.0 - 100.0 * kept, rtol=1e-2)
    np.testing.assert_allclose(moved.variance, 1.9 + 1e4 * kept * (1 - kept), rtol=3e-2)


def test_batches_merge_in_any_grouping():
    data, ones = _data(5, 12), jnp.ones(12)
    whole = normalize.update(normalize.welford(SPEC), data, ones)
    parts = normalize.welford(SPEC)
    for low, high in ((0, 1), (1, 9), (9, 12)):
        part = jax.tree.map(lambda x: x[low:high], data)
        parts = normalize.update(parts, part, ones[low:high])
    _close(parts, whole, rtol=1e-4)


def test_welford_survives_a_large_offset():
    """Naive sums of squares lose everything at this mean-to-spread ratio in float32."""
    rng = np.random.default_rng(6)
    data = (10_000.0 + rng.normal(size=(4, 500, 1))).astype(np.float32)
    stats = normalize.welford(data[0, 0])
    for batch in data:
        stats = normalize.update(stats, batch, jnp.ones(500))
    scale = normalize.affine(stats).scale
    np.testing.assert_allclose(scale, data.astype(np.float64).std((0, 1)), rtol=0.01)


@pytest.mark.parametrize('num_samples', [0, 1])
def test_few_samples_do_not_scale(num_samples):
    stats = normalize.welford(SPEC)
    if num_samples:
        stats = normalize.update(stats, _data(7, 1), jnp.ones(1))
    fitted = normalize.affine(stats)
    _close(fitted.scale, jax.tree.map(np.ones_like, fitted.scale), rtol=0)
    if not num_samples:
        _close(fitted.shift, jax.tree.map(np.zeros_like, fitted.shift), rtol=0)
