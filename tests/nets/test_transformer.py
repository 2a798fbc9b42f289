import functools

import jax
import numpy as np
import pytest

from jaxpolicy.nets import transformer
from tests import weights

B, TP, A, TO, D = 3, 6, 2, 2, 5
RNG = np.random.default_rng(0)
X, CONDITION = (RNG.normal(size=shape).astype(np.float32) for shape in ((B, TP, A), (B, TO, D)))
K = np.float32([0.0, 30.0, 99.0])
KEY = jax.random.key(0)


@functools.cache
def _wiggled(**fields):
    """The function of a network with random weights: the initial ones say 0."""
    net = transformer.Transformer(width=16, num_blocks=2, num_heads=2, **fields)
    params = weights.random(jax.eval_shape(net.init, KEY, X, K, CONDITION))
    apply = jax.jit(net.apply)
    return lambda *inputs: np.asarray(apply(params, *inputs))


def _plus(x, index, number):
    x = x.copy()
    x[index] += number
    return x


@pytest.mark.parametrize('conditioning', transformer.CONDITIONINGS)
def test_every_input_matters_and_rows_do_not_mix(conditioning):
    apply = _wiggled(conditioning=conditioning, causal=False)
    y = apply(X, K, CONDITION)
    assert y.shape == (B, TP, A)
    for other in (
        apply(_plus(X, 1, 1.0), K, CONDITION),
        apply(X, _plus(K, 1, 5.0), CONDITION),
        apply(X, K, _plus(CONDITION, (1, 0), 1.0)),
        apply(X, K, _plus(CONDITION, (1, 1), 1.0)),
    ):
        change = np.abs(other - y).max(axis=(1, 2))
        assert change[1] > 1e-3
        np.testing.assert_allclose(change[[0, 2]], 0.0, atol=1e-6)


@pytest.mark.parametrize('conditioning', transformer.CONDITIONINGS)
def test_causal_steps_see_only_the_past(conditioning):
    for causal in (True, False):
        apply = _wiggled(conditioning=conditioning, causal=causal)
        change = np.abs(apply(_plus(X, np.s_[:, 3], 1.0), K, CONDITION) - apply(X, K, CONDITION))
        before = change.max(axis=(0, 2))[:3]
        assert (before == 0).all() if causal else (before > 0).all()
        assert (change.max(axis=(0, 2))[3:] > 0).all()


def test_steps_know_their_position():
    """Equal actions in, different actions out."""
    apply = _wiggled(conditioning='adaln', causal=False)
    y = apply(np.zeros_like(X), K, CONDITION)
    assert np.abs(y[:, 0] - y[:, 1]).min() > 1e-4


def test_adaln_blocks_are_the_identity_at_first():
    net = transformer.Transformer(width=16, num_blocks=1, num_heads=2)
    output, _ = jax.jit(net.init_with_output)(KEY, X, K, CONDITION)
    assert output.shape == X.shape and (output == 0).all()
    block = transformer.Block(2, False)
    x, vector = np.ones((1, 4, 8), np.float32) * np.arange(8.0), np.ones((1, 8), np.float32)
    output, _ = jax.jit(lambda *args: block.init_with_output(*args, None))(KEY, x, vector)
    np.testing.assert_array_equal(output, x)


def test_attention_is_softmax_of_scaled_products():
    net = transformer.Attention(num_heads=2)
    x, memory = (RNG.normal(size=s).astype(np.float32) for s in ((1, 3, 4), (1, 5, 6)))
    params = weights.random(jax.eval_shape(net.init, KEY, x, memory))
    dense = {name: params['params'][f'Dense_{i}'] for i, name in enumerate(('q', 'kv', 'out'))}

    def project(name, y):
        return np.asarray(y @ dense[name]['kernel'] + dense[name]['bias'])[0]

    q, kv = project('q', x), project('kv', memory)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        k, v = kv[:, :4][:, h], kv[:, 4:][:, h]
        logits = q[:, h] @ k.T / np.sqrt(2.0)
        share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        heads.append(share @ v)
    expected = project('out', np.concatenate(heads, axis=-1)[None])
    np.testing.assert_allclose(jax.jit(net.apply)(params, x, memory)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'conditioning': 'film'}, r"agent.conditioning: .*'adaln'.*found 'film'"),
        ({'num_heads': 3}, 'agent.width: expected a multiple of 6 for 3 heads, found 16'),
    ],
)
def test_mistakes_are_named(fields, message):
    net = transformer.Transformer(**{'width': 16, 'num_blocks': 1, 'num_heads': 2} | fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, KEY, X, K, CONDITION)
