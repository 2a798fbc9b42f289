"""Recurrent networks over time-major sequences [T, N, ...].

What does not depend on the memory before a step (the encoder, the cell's input matrix) or follows
from it (the head) is computed for all steps at once. The scan over time then holds only one matrix
product and a few elementwise functions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.nets import mlp

Memory = dict[str, jax.Array]  # name -> [..., H]; all zeros where an episode starts


class Cell(NamedTuple):
    """A recurrent cell of size H: step(memory, inputs [..., G H], recurrence [..., G H]) -> memory.

    `inputs` is a linear map of what the cell sees at this step, `recurrence` one of memory['h'].
    """

    names: tuple[str, ...]  # of the arrays in its memory; 'h' is also its output
    num_gates: int  # G
    step: Callable[[Memory, jax.Array, jax.Array], Memory]


def gru(memory: Memory, inputs: jax.Array, recurrence: jax.Array) -> Memory:
    """r, z = sigmoid(i + h); n = tanh(i_n + r h_n); h' = (1 - z) n + z h.

    Source: Cho et al., 2014 (arXiv:1406.1078), with the reset after the matrix product as in cuDNN.
    """
    i_r, i_z, i_n = jnp.split(inputs, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(recurrence, 3, axis=-1)
    reset, update = nn.sigmoid(i_r + h_r), nn.sigmoid(i_z + h_z)
    new = jnp.tanh(i_n + reset * h_n)
    return {'h': new + update * (memory['h'] - new)}


def lstm(memory: Memory, inputs: jax.Array, recurrence: jax.Array) -> Memory:
    """i, f, o = sigmoid; c' = f c + i tanh(g); h' = o tanh(c').

    The forget gate has 1 added, so that a new network remembers (Jozefowicz et al., 2015).
    Source: Hochreiter and Schmidhuber, 1997; Gers et al., 2000.
    """
    i, f, g, o = jnp.split(inputs + recurrence, 4, axis=-1)
    c = nn.sigmoid(f + 1.0) * memory['c'] + nn.sigmoid(i) * jnp.tanh(g)
    return {'c': c, 'h': nn.sigmoid(o) * jnp.tanh(c)}


CELLS = {'gru': Cell(('h',), 3, gru), 'lstm': Cell(('c', 'h'), 4, lstm)}


class Recurrent(nn.Module):
    """An encoder, a recurrent cell and a linear head, one after the other.

    `hidden` are the sizes of the encoder's layers, `size` is the cell's H, and `output_scale` is
    the gain of the head.
    """

    hidden: Sequence[int]
    cell: str
    size: int
    output_dim: int
    activation: str = 'elu'
    output_scale: float = 1.0

    def setup(self):
        init, gates = nn.initializers.orthogonal, CELLS[self.cell].num_gates
        self.encoder = [nn.Dense(n, kernel_init=init(2.0**0.5)) for n in self.hidden]
        self.inputs = nn.Dense(gates * self.size, kernel_init=_per_gate(gates))
        self.recurrence = self.param('recurrence', _per_gate(gates), (self.size, gates * self.size))
        self.bias = self.param('bias', nn.initializers.zeros_init(), (gates * self.size,))
        self.head = nn.Dense(self.output_dim, kernel_init=init(self.output_scale))

    def start(self, num: int) -> Memory:
        """The memory [num, H] at the start of `num` episodes."""
        return {name: jnp.zeros((num, self.size)) for name in CELLS[self.cell].names}

    def see(self, x: jax.Array) -> jax.Array:
        """Encodes x [..., D] as the inputs [..., G H] of the cell."""
        for layer in self.encoder:
            x = mlp.ACTIVATIONS[self.activation](layer(x))
        return self.inputs(x)

    def remember(self, memory: Memory, inputs: jax.Array) -> Memory:
        """One step of the cell; all axes but the last are batch axes."""
        recurrence = memory['h'] @ self.recurrence + self.bias
        return CELLS[self.cell].step(memory, inputs, recurrence)

    def step(self, memory: Memory, x: jax.Array) -> tuple[Memory, jax.Array]:
        """One step: (memory [..., H], x [..., D]) -> (next memory, output [..., output_dim])."""
        memory = self.remember(memory, self.see(x))
        return memory, self.head(memory['h'])

    def __call__(self, memory: Memory, x: jax.Array, done: jax.Array) -> tuple[Memory, jax.Array]:
        """Runs through sequences of T steps.

        Args:
          memory: [N, H], before the first step.
          x: [T, N, D].
          done: [T, N] bool; after a step with True the memory starts anew.

        Returns:
          the memories after each step (before they start anew), [T, N, H]; the outputs
          [T, N, output_dim].
        """

        def step(memory, now):
            inputs, done = now
            after = self.remember(memory, inputs)
            return jax.tree.map(lambda m: jnp.where(done[:, None], 0.0, m), after), after

        _, memories = jax.lax.scan(step, memory, (self.see(x), done))
        return memories, self.head(memories['h'])


def _per_gate(num_gates: int) -> Callable:
    """Orthogonal matrices side by side, one for each gate."""
    orthogonal = nn.initializers.orthogonal()

    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, num_gates)
        each = (shape[0], shape[1] // num_gates)
        return jnp.concatenate([orthogonal(k, each, dtype) for k in keys], axis=1)

    return init
