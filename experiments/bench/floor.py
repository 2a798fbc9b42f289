"""The least time that an iteration of `experiments.bench.rl` can take: physics and matrix products.

The products are counted by hand from the weights of the networks, for one iteration of PPO with a
rollout [T, N]. The actor runs forward once for every step that is taken. The critic runs forward
for the value of every step and of what follows the last one. In every epoch both run, for every
step, forward and with twice as much work backward, less what the first layers do not need (the
gradient of their input).
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.runs import learner


class Rates(NamedTuple):
    """Floating-point operations per second of matrix products, float32 as JAX computes them."""

    peak: float  # the largest found over square matrices
    shapes: float  # of a minibatch [B, H] with weights [H, H]: forward, and both gradients


def learner_flops(config: config_dict.ConfigDict, spec: types.Spec) -> float:
    """Floating-point operations of one rollout's actions, values and updates."""
    params = jax.eval_shape(learner.make_agent(config, spec).init, jax.random.key(0)).params
    actor, critic = (_products(params[name]) for name in ('actor', 'critic'))
    num_envs, length = config.loop.num_envs, config.loop.rollout_length
    steps = num_envs * length
    total = 2.0 * steps * sum(actor) + 2.0 * (steps + num_envs) * sum(critic)
    once = 3 * (sum(actor) + sum(critic)) - actor[0] - critic[0]
    return total + 2.0 * steps * config.agent.num_epochs * once


def _products(params: Any) -> list[int]:
    """Multiplications per row of each layer of a network, the first layer first."""
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    return [leaf.shape[0] * leaf.shape[1] for _, leaf in named if len(leaf.shape) == 2]


def clocks(config: config_dict.ConfigDict) -> Callable[[], Rates]:
    """Compiles the products; every call of the result measures both rates anew.

    Raises:
      ValueError: an agent that has no minibatches, whose products are not counted here.
    """
    agent, loop = config.agent, config.loop
    if 'num_minibatches' not in agent:
        raise ValueError(
            f'config.agent.name: expected ppo, whose products are counted, found {agent.name!r}'
        )
    batch = max(1, loop.num_envs * loop.rollout_length // agent.num_minibatches)
    sizes = (512, 1024) if jax.default_backend() == 'cpu' else (2048, 4096, 8192)
    squares = [_rate(_forward, 1, size, size) for size in sizes]
    own = _rate(_all_three, 3, batch, max(agent.hidden))
    return lambda: Rates(max(square() for square in squares), own())


def square_rate() -> float:
    """FLOP/s of the largest square product that `clocks` would try."""
    size = 1024 if jax.default_backend() == 'cpu' else 8192
    rate = _rate(_forward, 1, size, size)
    return max(rate() for _ in range(3))


def _forward(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


def _all_three(x: jax.Array, w: jax.Array) -> jax.Array:
    y, pull = jax.vjp(_forward, x, w)
    dx, dw = pull(y)
    return dx + dw[0]


def _rate(product: Callable, count: int, rows: int, width: int) -> Callable[[], float]:
    """FLOP/s of `count` products [rows, width] x [width, width], from a scan of them."""
    flops = 2.0 * count * rows * width**2
    length = max(1, round(4e9 / flops))
    key = jax.random.key(0)
    x, w = jax.random.normal(key, (rows, width)), jax.random.normal(key, (width, width))
    w = w / width**0.5  # keeps the numbers at the same size

    @jax.jit
    def run(x, w):
        return jax.lax.scan(lambda x, _: (product(x, w), None), x, length=length)[0]

    jax.block_until_ready(run(x, w))

    def rate() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(run(x, w))
        return length * flops / (time.perf_counter() - begin)

    return rate
