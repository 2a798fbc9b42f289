"""How long a compiled function takes, call by call."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types


class Latency(NamedTuple):
    """Seconds of compilation, milliseconds of a call."""

    compile_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def of_agent(agent: types.Agent, config, spec: types.Spec, train: Any, batch: int = 1) -> Latency:
    """Of planning a chunk for `batch` robots."""
    lead = (batch, config.agent.obs_horizon)
    obs = jax.tree.map(lambda s: jnp.zeros((*lead, *s.shape), s.dtype), spec.obs)
    if agent.memory is not types.no_memory:
        memory = agent.memory(jax.tree.map(lambda x: x[:, 0], obs))
        obs = types.Remembered(obs, memory)
    begin = time.perf_counter()
    act = jax.jit(agent.act).lower(train, obs, jax.random.key(0)).compile()
    compile_s = time.perf_counter() - begin
    keys = [jax.random.key(i) for i in range(8)]
    calls = milliseconds(lambda i: act(train, obs, keys[i % 8]))
    return Latency(compile_s, *np.percentile(calls, (50, 95, 99)))


def milliseconds(call: Callable[[int], Any], least_s: float = 0.5, most: int = 1000) -> np.ndarray:
    """Times of single calls [n], as `alternating`."""
    return alternating({'': call}, least_s, most)['']


def alternating(
    calls: dict[str, Callable[[int], Any]], least_s: float = 0.5, most: int = 1000
) -> dict[str, np.ndarray]:
    """Times of single calls of several functions in turns, [n] each.

    After three calls each that do not count, at least 20 each, up to `least_s` seconds or `most`.
    """
    for call in calls.values():
        for i in range(3):
            jax.block_until_ready(call(i))
    times: dict[str, list[float]] = {name: [] for name in calls}
    total, count = 0.0, 0
    while count < 20 or (total < least_s * len(calls) and count < most):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call(count))
            times[name].append(time.perf_counter() - begin)
            total += times[name][-1]
        count += 1
    return {name: 1e3 * np.asarray(each) for name, each in times.items()}
