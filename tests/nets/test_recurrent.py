"""Cells against flax's, and sequences against one step at a time."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxpolicy.nets import recurrent
from tests import weights

T, N, D, H = 7, 3, 4, 5


@functools.cache
def _net(cell):
    """The network, its parameters, of which none is 0, a memory, inputs and ends of episodes."""
    net = recurrent.Recurrent((6,), cell, H, 2, 'tanh')
    x = np.random.default_rng(0).normal(size=(T, N, D)).astype(np.float32)
    done = np.zeros((T, N), bool)
    done[[2, 3, T - 1], [0, 1, 2]] = True
    memory = jax.tree.map(lambda m: np.asarray(m) + np.float32(0.3), net.start(N))
    params = weights.random(jax.eval_shape(net.init, jax.random.key(1), memory, x, done))
    return net, params, memory, x, done


@functools.cache
def _step(cell):
    net = _net(cell)[0]
    return jax.jit(lambda params, memory, x: net.apply(params, memory, x, method='step'))


def _flax(cell, params, memory, inputs):
    """flax's cell with the same weights; `inputs` is what the encoder makes of x."""
    p = params['params']
    gates = {'gru': 'rzn', 'lstm': 'ifgo'}[cell]
    kernels = np.split(p['inputs']['kernel'], len(gates), axis=1)
    biases = np.split(p['inputs']['bias'], len(gates))
    recurrences = np.split(p['recurrence'], len(gates), axis=1)
    recurrent_biases = np.split(p['bias'], len(gates))
    theirs = {}
    for i, gate in enumerate(gates):
        seen, kept = {'kernel': kernels[i], 'bias': biases[i]}, {'kernel': recurrences[i]}
        if cell == 'gru' and gate == 'n':
            kept['bias'] = recurrent_biases[i]
        elif cell == 'gru':
            seen['bias'] = biases[i] + recurrent_biases[i]
        else:
            kept['bias'] = biases[i] + recurrent_biases[i] + (gate == 'f')
            del seen['bias']
        theirs[f'i{gate}'], theirs[f'h{gate}'] = seen, kept
    if cell == 'gru':
        carry, _ = nn.GRUCell(H).apply({'params': theirs}, memory['h'], inputs)
        return {'h': carry}
    (c, h), _ = nn.OptimizedLSTMCell(H).apply(
        {'params': theirs}, (memory['c'], memory['h']), inputs
    )
    return {'c': c, 'h': h}


@pytest.mark.parametrize('cell', recurrent.CELLS)
def test_cells_are_those_of_flax(cell):
    _, params, memory, x, _ = _net(cell)
    p = params['params']['encoder_0']
    encoded = np.tanh(x[0] @ p['kernel'] + p['bias'])
    found, output = jax.device_get(_step(cell)(params, memory, x[0]))
    expected = jax.jit(functools.partial(_flax, cell, params))(memory, encoded)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    head = params['params']['head']
    np.testing.assert_allclose(output, found['h'] @ head['kernel'] + head['bias'], atol=1e-6)


@pytest.mark.parametrize('cell', recurrent.CELLS)
def test_a_sequence_is_its_steps_with_a_new_memory_after_each_end(cell):
    net, params, memory, x, done = _net(cell)
    memories, outputs = jax.device_get(jax.jit(net.apply)(params, memory, x, done))
    start = jax.device_get(net.start(N))
    for t in range(T):
        memory, output = jax.device_get(_step(cell)(params, memory, x[t]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[t], b, atol=1e-6), memories, memory)
        np.testing.assert_allclose(outputs[t], output, atol=1e-6)
        memory = jax.tree.map(lambda m, s: np.where(done[t][:, None], s, m), memory, start)


def test_matrices_are_orthogonal_gate_by_gate():
    net = recurrent.Recurrent((), 'lstm', H, 2)
    x, done = np.zeros((1, 1, D), np.float32), np.zeros((1, 1), bool)
    params = jax.jit(net.init)(jax.random.key(0), net.start(1), x, done)['params']
    each = np.split(np.asarray(params['recurrence']), 4, axis=1)
    for matrix in each:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(H), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.1
