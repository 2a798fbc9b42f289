"""Evaluation: whole episodes, one number per episode, everything after the first end left out.

`evaluate` runs environments on the device in one scan, `trace` also keeps every step of them, and
`evaluate_host` steps simulators outside JAX. All three give arrays over episodes, so that the
caller reports n and a confidence interval.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import special

from jaxpolicy.types import Env, EnvState, HostEnv, Key, Policy, PyTree


class Tally(struct.PyTreeNode):
    """Running sums of N episodes, and which of them still run."""

    running: jax.Array  # [N] bool
    total: jax.Array  # [N] sum of rewards
    length: jax.Array  # [N] int32
    largest: dict[str, jax.Array]  # [N] per metric
    final: dict[str, jax.Array]
    summed: dict[str, jax.Array]


def evaluate(
    env: Env, policy: Policy, keys: Key, act_key: Key, num_steps: int
) -> dict[str, jax.Array]:
    """Runs N episodes on the device; pure, to be jitted by the caller with the policy's state.

    Args:
      env: vectorized, without auto-reset; with a time limit unless `num_steps` is one.
      keys: [N], one per episode: the start of an episode depends on its key alone.
      act_key: for the policy.
      num_steps: steps to run; an episode that has not ended by then is cut there.

    Returns:
      Arrays [N]: 'return', 'length' (steps), and for each metric m of the environment f'{m}_max',
      f'{m}_final' and f'{m}_mean' over the steps up to the episode's first end.
    """
    state = env.reset(keys)
    carry = (state, policy.init(state.obs), _start(state.reward, state.metrics))

    def step(carry, t):
        state, memory, tally = carry
        key = jax.random.fold_in(act_key, t)
        memory, action, _ = policy.act(memory, state.obs, key)
        state = env.step(state, action)
        return (state, memory, _add(tally, state)), None

    (_, _, tally), _ = jax.lax.scan(step, carry, jnp.arange(num_steps))
    return _summary(tally)


def trace(
    env: Env, policy: Policy, keys: Key, act_key: Key, num_steps: int, num_states: int = 1
) -> tuple[dict[str, jax.Array], jax.Array, EnvState]:
    """Runs the episodes that `evaluate` runs and keeps every step, for pictures and videos.

    Args:
      num_states: of how many episodes, the first ones, to keep the whole state.

    Returns:
      metrics after each step, {name: [T, N]}; which steps belong to an episode, [T, N] bool: True
      up to and with its first end; the states after each step, leaves [T, num_states, ...].
    """
    state = env.reset(keys)
    carry = (state, policy.init(state.obs), jnp.ones(state.reward.shape, bool))

    def step(carry, t):
        state, memory, running = carry
        key = jax.random.fold_in(act_key, t)
        memory, action, _ = policy.act(memory, state.obs, key)
        state = env.step(state, action)
        kept = jax.tree.map(lambda x: x[:num_states], state)
        still = running & ~(state.termination | state.truncation)
        return (state, memory, still), (state.metrics, running, kept)

    _, (metrics, valid, states) = jax.lax.scan(step, carry, jnp.arange(num_steps))
    return metrics, valid, states


def compiled(make_policy: Callable[[PyTree], Policy]) -> Callable[[PyTree], Policy]:
    """`make_policy`, with the policy's functions jitted and its state an argument of them.

    For `evaluate_host`: the weights are no constants of the program, and one compilation serves
    every state of the same shapes. Build it once, call it with each new state.
    """
    init = jax.jit(lambda state, obs: make_policy(state).init(obs))
    act = jax.jit(lambda state, memory, obs, key: make_policy(state).act(memory, obs, key))

    def policy(state: PyTree) -> Policy:
        return Policy(
            init=lambda obs: init(state, obs),
            act=lambda memory, obs, key: act(state, memory, obs, key),
        )

    return policy


def evaluate_host(
    env: HostEnv, policy: Policy, key: Key, seeds: Sequence[int] | np.ndarray, num_steps: int
) -> dict[str, np.ndarray]:
    """Runs one episode per seed in simulators outside JAX, until all have ended.

    Args:
      policy: of `compiled`; its functions are called as they are, once per step for all episodes.
      key: for the policy.
      seeds: [N], of the simulators.
      num_steps: the time limit.

    Returns:
      The arrays of `evaluate`, numpy's, [N].
    """
    obs = env.reset(seeds)
    memory = policy.init(obs)
    running = np.ones(len(seeds), bool)
    rewards, valid = [], []
    metrics: dict[str, list[Any]] = {}
    for t in range(num_steps):
        memory, action, _ = policy.act(memory, obs, jax.random.fold_in(key, t))
        obs, reward, termination, values = env.step(np.asarray(action))
        rewards.append(np.asarray(reward))
        valid.append(running)
        for name, value in values.items():
            metrics.setdefault(name, []).append(np.asarray(value))
        running = running & ~np.asarray(termination)
        if not running.any():
            break
    mask = np.stack(valid)  # [T, N]
    length = mask.sum(0)
    result = {'return': np.where(mask, np.stack(rewards), 0.0).sum(0), 'length': length}
    for name, values in metrics.items():
        value = np.stack(values)  # [T, N]
        result[f'{name}_max'] = np.where(mask, value, -np.inf).max(0)
        result[f'{name}_final'] = value[length - 1, np.arange(len(length))]
        result[f'{name}_mean'] = np.where(mask, value, 0.0).sum(0) / length
    return result


def confidence_interval(
    x: np.ndarray | jax.Array, kind: str, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of N episodes and its confidence interval.

    Args:
      x: [N].
      kind: 'binary' for zeros and ones (Wilson's score interval, 1927), 'real' for anything else
        (Student's t; infinitely wide for a single episode).
      level: of confidence, in (0, 1).

    Returns:
      (mean, low, high).

    Raises:
      ValueError: no episodes, values that are not finite or, for 'binary', not 0 or 1.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f'x: expected finite values [N], found shape {list(x.shape)}: {x}')
    if not 0.0 < level < 1.0:
        raise ValueError(f'level: expected a number between 0 and 1, found {level}')
    n, mean = x.size, float(x.mean())
    if kind == 'binary':
        if not np.isin(x, (0.0, 1.0)).all():
            raise ValueError(f'x: expected zeros and ones for a binary interval, found {x}')
        z = float(special.ndtri(0.5 + level / 2))
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2))
        return mean, max(0.0, centre - half), min(1.0, centre + half)
    if kind == 'real':
        if n == 1:
            return mean, -np.inf, np.inf
        t = float(special.stdtrit(n - 1, 0.5 + level / 2))
        half = t * float(x.std(ddof=1)) / n**0.5
        return mean, mean - half, mean + half
    raise ValueError(f"kind: expected 'binary' or 'real', found {kind!r}")


def _start(reward: jax.Array, metrics: dict[str, jax.Array]) -> Tally:
    zeros = {name: jnp.zeros(value.shape, jnp.float32) for name, value in metrics.items()}
    return Tally(
        running=jnp.ones(reward.shape, bool),
        total=jnp.zeros(reward.shape, jnp.float32),
        length=jnp.zeros(reward.shape, jnp.int32),
        largest={name: jnp.full(zero.shape, -jnp.inf) for name, zero in zeros.items()},
        final=zeros,
        summed=zeros,
    )


def _add(tally: Tally, state: EnvState) -> Tally:
    run = tally.running

    def keep(new: dict[str, jax.Array], old: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: jnp.where(run, new[name], old[name]) for name in old}

    return tally.replace(
        running=run & ~(state.termination | state.truncation),
        total=tally.total + jnp.where(run, state.reward, 0.0),
        length=tally.length + run,
        largest=keep(jax.tree.map(jnp.maximum, tally.largest, state.metrics), tally.largest),
        final=keep(state.metrics, tally.final),
        summed=keep(jax.tree.map(jnp.add, tally.summed, state.metrics), tally.summed),
    )


def _summary(tally: Tally) -> dict[str, jax.Array]:
    result = {'return': tally.total, 'length': tally.length}
    for name in tally.largest:
        result[f'{name}_max'] = tally.largest[name]
        result[f'{name}_final'] = tally.final[name]
        result[f'{name}_mean'] = tally.summed[name] / tally.length
    return result
