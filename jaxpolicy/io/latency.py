"""Measures how long a compiled function takes, call by call."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types


class Latency(NamedTuple):
    """The seconds of compilation, and quantiles of the milliseconds of a call."""

    compile_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def of_agent(
    agent: types.AnyAgent, config, spec: types.Spec, train: Any, batch: int = 1
) -> Latency:
    """The latency of planning a chunk for `batch` robots.

    Args:
      config: of the run.
      spec: of one robot.
      train: the agent's train state.
    """
    lead = (batch, config.agent.obs_horizon)
    obs = jax.tree.map(lambda s: jnp.zeros((*lead, *s.shape), s.dtype), spec.obs)

    def plan(train, carry, obs, key):
        return agent.policy(train, True).act(carry, obs, key)

    carry = agent.policy(train, True).init(obs)
    begin = time.perf_counter()
    compiled = jax.jit(plan).lower(train, carry, obs, jax.random.key(0)).compile()
    compile_s = time.perf_counter() - begin
    keys = [jax.random.key(i) for i in range(8)]
    calls = milliseconds(lambda i: compiled(train, carry, obs, keys[i % 8]))
    return Latency(compile_s, *np.percentile(calls, (50, 95, 99)))


def milliseconds(call: Callable[[int], Any], least_s: float = 0.5, most: int = 1000) -> np.ndarray:
    """The milliseconds of single calls of one function, [n], measured as in `alternating`."""
    return alternating({'': call}, least_s, most)['']


def alternating(
    calls: dict[str, Callable[[int], Any]], least_s: float = 0.5, most: int = 1000
) -> dict[str, np.ndarray]:
    """Calls several functions in turns; the milliseconds of their single calls, [n] each.

    The first three calls of each function do not count. After them, each is called at least 20
    times, and until it took `least_s` seconds (a mean over functions) or was called `most` times.
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
