import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.nets import transformer

B, TP, A, TO, D = 3, 6, 2, 2, 5
RNG = np.random.default_rng(0)
X, CONDITION = (
    jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((B, TP, A), (B, TO, D))
)
K = jnp.asarray([0.0, 30.0, 99.0])


def _wiggled(net):
    """Its function and random weights: the initial ones say 0."""
    params = jax.jit(net.init)(jax.random.key(0), X, K, CONDITION)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    params = jax.tree.unflatten(structure, moved)
    return jax.jit(lambda *inputs: net.apply(params, *inputs))


def _net(**fields):
    return transformer.Transformer(width=16, num_blocks=2, num_heads=2, **fields)


@pytest.mark.parametrize('conditioning', transformer.CONDITIONINGS)
def test_every_input_matters_and_rows_do_not_mix(conditioning):
    apply = _wiggled(_net(conditioning=conditioning))
    y = apply(X, K, CONDITION)
    assert y.shape == (B, TP, A)
    for other in (
        apply(X.at[1].add(1.0), K, CONDITION),
        apply(X, K.at[1].add(5.0), CONDITION),
        apply(X, K, CONDITION.at[1, 0].add(1.0)),
        apply(X, K, CONDITION.at[1, 1].add(1.0)),
    ):
        change = np.abs(other - y).max(axis=(1, 2))
        assert change[1] > 1e-3
        np.testing.assert_allclose(change[[0, 2]], 0.0, atol=1e-6)


@pytest.mark.parametrize('conditioning', transformer.CONDITIONINGS)
def test_causal_steps_see_only_the_past(conditioning):
    for causal in (True, False):
        apply = _wiggled(_net(conditioning=conditioning, causal=causal))
        change = np.abs(apply(X.at[:, 3].add(1.0), K, CONDITION) - apply(X, K, CONDITION))
        before = change.max(axis=(0, 2))[:3]
        assert (before == 0).all() if causal else (before > 0).all()
        assert (change.max(axis=(0, 2))[3:] > 0).all()


def test_steps_know_their_position():
    """Equal actions in, different actions out."""
    apply = _wiggled(_net())
    y = apply(jnp.zeros_like(X), K, CONDITION)
    assert np.abs(y[:, 0] - y[:, 1]).min() > 1e-4


def test_adaln_blocks_are_the_identity_at_first():
    net = _net()
    params = jax.jit(net.init)(jax.random.key(0), X, K, CONDITION)
    assert (jax.jit(net.apply)(params, X, K, CONDITION) == 0).all()
    block = transformer.Block(2, False)
    x, vector = jnp.ones((1, 4, 8)) * jnp.arange(8.0), jnp.ones((1, 8))
    params = block.init(jax.random.key(0), x, vector, None)
    np.testing.assert_array_equal(block.apply(params, x, vector, None), x)


def test_attention_is_softmax_of_scaled_products():
    net = transformer.Attention(num_heads=2)
    x, memory = jnp.asarray(RNG.normal(size=(1, 3, 4))), jnp.asarray(RNG.normal(size=(1, 5, 6)))
    params = net.init(jax.random.key(0), x, memory)
    dense = {name: params['params'][f'Dense_{i}'] for i, name in enumerate(('q', 'kv', 'out'))}

    def project(name, y):
        return np.asarray(y @ dense[name]['kernel'] + dense[name]['bias'])[0]

    q, kv = project('q', x), project('kv', memory)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        k, v = kv[:, :4][:, h], kv[:, 4:][:, h]
        logits = q[:, h] @ k.T / np.sqrt(2.0)
        weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        heads.append(weights @ v)
    expected = project('out', np.concatenate(heads, axis=-1)[None])
    np.testing.assert_allclose(net.apply(params, x, memory)[0], expected, atol=1e-5)


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
        jax.eval_shape(net.init, jax.random.key(0), X, K, CONDITION)
