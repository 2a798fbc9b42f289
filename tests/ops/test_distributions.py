import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special, stats

from jaxpolicy.ops import distributions

RNG = np.random.default_rng(0)
MEAN, OTHER_MEAN = RNG.normal(size=(2, 5, 3)).astype(np.float32)
LOG_STD, OTHER_LOG_STD = RNG.uniform(-1, 0.5, size=(2, 5, 3)).astype(np.float32)
GAUSSIAN = distributions.Gaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD))

LOGITS = RNG.normal(size=(5, 4)).astype(np.float32)
MIX_MEAN = RNG.normal(size=(5, 4, 3)).astype(np.float32)
MIX_LOG_STD = RNG.uniform(-1, 0.5, size=(5, 4, 3)).astype(np.float32)
MIXTURE = distributions.Mixture(*map(jnp.asarray, (LOGITS, MIX_MEAN, MIX_LOG_STD)))


def test_gaussian_log_prob_and_entropy_equal_scipy():
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    reference = stats.norm(MEAN, np.exp(LOG_STD))
    np.testing.assert_allclose(
        GAUSSIAN.log_prob(jnp.asarray(x)), reference.logpdf(x).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(GAUSSIAN.entropy(), reference.entropy().sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(GAUSSIAN.mode(), MEAN)


def test_gaussian_kl_equals_its_integral():
    other = distributions.Gaussian(jnp.asarray(OTHER_MEAN), jnp.asarray(OTHER_LOG_STD))
    expected = np.zeros((5, 3))
    for index in np.ndindex(5, 3):
        p = stats.norm(MEAN[index], np.exp(LOG_STD[index]))
        q = stats.norm(OTHER_MEAN[index], np.exp(OTHER_LOG_STD[index]))
        low, high = p.mean() - 10 * p.std(), p.mean() + 10 * p.std()
        expected[index] = integrate.quad(
            lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high
        )[0]
    np.testing.assert_allclose(GAUSSIAN.kl(other), expected.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(GAUSSIAN.kl(GAUSSIAN), 0.0, atol=1e-6)
    assert np.abs(GAUSSIAN.kl(other) - other.kl(GAUSSIAN)).max() > 0.1  # it has a direction


def test_gaussian_samples_have_its_moments():
    keys = jax.random.split(jax.random.key(0), 20_000)
    x = np.asarray(jax.vmap(GAUSSIAN.sample)(keys))
    error = np.exp(LOG_STD) / np.sqrt(len(keys))  # one standard error of the mean
    assert (np.abs(x.mean(0) - MEAN) < 5 * error).all()
    np.testing.assert_allclose(x.std(0), np.exp(LOG_STD), rtol=0.03)


def _mixture_log_prob(x, coordinates):
    each = stats.norm(MIX_MEAN, np.exp(MIX_LOG_STD)).logpdf(x[:, None])  # [5, 4, 3]
    each = (each * coordinates[:, None]).sum(-1)
    return special.logsumexp(special.log_softmax(LOGITS, axis=-1) + each, axis=-1)


def test_mixture_log_prob_equals_scipy_with_and_without_a_mask():
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    ones = np.ones((5, 3))
    np.testing.assert_allclose(MIXTURE.log_prob(x), _mixture_log_prob(x, ones), rtol=1e-5)
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    found = MIXTURE.log_prob(x, jnp.asarray(mask))
    np.testing.assert_allclose(found, _mixture_log_prob(x, mask), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[3], 0.0, atol=1e-6)  # nothing observed, probability 1


def test_a_masked_coordinate_is_integrated_out():
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    grid = np.linspace(-15, 15, 3001, dtype=np.float32)
    points = np.repeat(x[None], len(grid), axis=0)
    points[:, :, 1] = grid[:, None]
    density = np.exp(np.asarray(jax.vmap(MIXTURE.log_prob)(points), np.float64))
    integral = integrate.trapezoid(density, grid, axis=0)
    mask = jnp.asarray([[1.0, 0.0, 1.0]] * 5)
    np.testing.assert_allclose(np.exp(MIXTURE.log_prob(x, mask)), integral, rtol=1e-3)


def test_mixture_of_one_is_a_gaussian():
    mixture = distributions.Mixture(
        jnp.full((5, 1), 7.0), GAUSSIAN.mean[:, None], GAUSSIAN.log_std[:, None]
    )
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(mixture.log_prob(x), GAUSSIAN.log_prob(x), rtol=1e-5)


def test_mixture_samples_whole_components():
    """A sample keeps to one component in all coordinates, as often as the weights say."""
    mean = jnp.asarray([[-1.0, -1.0], [1.0, 1.0]])
    logits = jnp.log(jnp.asarray([0.3, 0.7]))
    mixture = distributions.Mixture(logits, mean, jnp.full((2, 2), -3.0))
    x = np.asarray(jax.vmap(mixture.sample)(jax.random.split(jax.random.key(0), 4000)))
    assert (np.sign(x[:, 0]) == np.sign(x[:, 1])).all()
    assert abs((x[:, 0] > 0).mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / 4000)
    np.testing.assert_allclose(x[x[:, 0] > 0].std(0), np.exp(-3.0), rtol=0.05)


def test_mixture_mode_is_the_likeliest_components_mean():
    best = LOGITS.argmax(-1)
    np.testing.assert_array_equal(MIXTURE.mode(), MIX_MEAN[np.arange(5), best])


def test_categorical_equals_scipy():
    categorical, probs = distributions.Categorical(jnp.asarray(LOGITS)), special.softmax(LOGITS, -1)
    for choice in range(4):
        x = np.eye(4, dtype=np.int8)[[choice] * 5]
        np.testing.assert_allclose(categorical.log_prob(x), np.log(probs[:, choice]), rtol=1e-5)
    np.testing.assert_allclose(categorical.entropy(), stats.entropy(probs, axis=-1), rtol=1e-5)
    mode = categorical.mode()
    np.testing.assert_array_equal(mode, np.eye(4)[LOGITS.argmax(-1)])
    assert mode.dtype == jnp.int8


def test_categorical_samples_are_one_hot_and_as_frequent_as_likely():
    categorical = distributions.Categorical(jnp.asarray(LOGITS))
    keys = jax.random.split(jax.random.key(0), 10_000)
    x = np.asarray(jax.vmap(categorical.sample)(keys))
    assert x.dtype == np.int8 and x.shape == (10_000, 5, 4)
    assert (x.sum(-1) == 1).all() and set(np.unique(x)) == {0, 1}
    probs = special.softmax(LOGITS, -1)
    assert (np.abs(x.mean(0) - probs) < 5 * np.sqrt(probs * (1 - probs) / len(keys))).all()
