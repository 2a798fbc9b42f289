"""Evaluation of policies in whole episodes, where steps after an episode's first end do not count.

`evaluate` runs environments on the device in one scan, `evaluate_and_trace` also keeps every step
of some, and `evaluate_host` steps simulators outside JAX. `evaluate` and `evaluate_host` give
arrays with one number per episode, so that the caller can report n and a confidence interval.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy.types import Env, EnvState, HostEnv, Key, Policy, PyTree


class Tally(struct.PyTreeNode):
    """Running sums over N episodes, and which of the episodes still run."""

    running: jax.Array  # [N] bool
    total: jax.Array  # [N] sum of the rewards
    length: jax.Array  # [N] int32
    largest: dict[str, jax.Array]  # [N] per metric
    final: dict[str, jax.Array]
    summed: dict[str, jax.Array]
    broken: jax.Array  # [N] bool: a number of the episode was not finite


class Trace(struct.PyTreeNode):
    """What happened in the first P of N episodes, step by step."""

    metrics: dict[str, jax.Array]  # [T, P], after each step
    valid: jax.Array  # [T, P] bool, True up to and including an episode's first end
    states: EnvState  # after each step of the first S episodes, leaves [T, S, ...]


def evaluate(
    env: Env, policy: Policy, keys: Key, act_key: Key, num_steps: int
) -> dict[str, jax.Array]:
    """Runs N episodes on the device; a pure function, which the caller jits.

    Args:
      env: vectorised, without auto-reset; it needs no time limit if `num_steps` serves as one.
      keys: [N], one per episode; the start of an episode depends on its key alone.
      act_key: for the random draws of the policy.
      num_steps: steps to run; an episode that has not ended by then is cut there.

    Returns:
      Arrays [N]: 'return', 'length' (steps), 'broken' (1 where a reward, the return or a metric was
      not finite, else 0), and f'{m}_max', f'{m}_final' and f'{m}_mean' of each metric m of the
      environment, taken over the steps up to the episode's first end.
    """
    return evaluate_and_trace(env, policy, keys, act_key, num_steps, 0, 0)[0]


def evaluate_and_trace(
    env: Env,
    policy: Policy,
    keys: Key,
    act_key: Key,
    num_steps: int,
    num_traced: int,
    num_states: int,
) -> tuple[dict[str, jax.Array], Trace]:
    """Runs the episodes of `evaluate`, and also keeps every step of some, for pictures and videos.

    Args:
      num_traced: P, how many episodes keep their metrics; they are the first ones.
      num_states: S, how many episodes keep their whole states.

    Returns:
      what `evaluate` returns, and the trace.
    """
    state = env.reset(keys)
    carry = (state, policy.init(state.obs), _start(state.reward, state.metrics))

    def step(carry, t):
        state, memory, tally = carry
        key = jax.random.fold_in(act_key, t)
        memory, action, _ = policy.act(memory, state.obs, key)
        state = env.step(state, action)
        metrics, running = jax.tree.map(lambda x: x[:num_traced], (state.metrics, tally.running))
        kept = Trace(metrics, running, jax.tree.map(lambda x: x[:num_states], state))
        return (state, memory, _add(tally, state)), kept

    (_, _, tally), trace = jax.lax.scan(step, carry, jnp.arange(num_steps))
    return _summary(tally), trace


def compiled(make_policy: Callable[[PyTree], Policy]) -> Callable[[PyTree], Policy]:
    """Jits the functions of a policy for `evaluate_host`, with the policy's state as an argument.

    The weights are then no constants of the compiled program, so that one compilation serves every
    state of the same shapes. Build it once and call it with each new state.
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
      policy: made by `compiled`; it is called once per step for all episodes, and not jitted here.
      key: for the random draws of the policy.
      seeds: [N], one for each simulator.
      num_steps: the time limit.

    Returns:
      The same arrays [N] as `evaluate`, as NumPy arrays.
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
    total = np.where(mask, np.stack(rewards), 0.0).sum(0)
    broken = ~np.isfinite(total)
    result = {'return': total, 'length': length}
    for name, values in metrics.items():
        value = np.stack(values)  # [T, N]
        result[f'{name}_max'] = np.where(mask, value, -np.inf).max(0)
        result[f'{name}_final'] = value[length - 1, np.arange(len(length))]
        result[f'{name}_mean'] = np.where(mask, value, 0.0).sum(0) / length
        broken = broken | (mask & ~np.isfinite(value)).any(0)
    return result | {'broken': broken.astype(np.float32)}


def _start(reward: jax.Array, metrics: dict[str, jax.Array]) -> Tally:
    zeros = {name: jnp.zeros(value.shape, jnp.float32) for name, value in metrics.items()}
    return Tally(
        running=jnp.ones(reward.shape, bool),
        total=jnp.zeros(reward.shape, jnp.float32),
        length=jnp.zeros(reward.shape, jnp.int32),
        largest={name: jnp.full(zero.shape, -jnp.inf) for name, zero in zeros.items()},
        final=zeros,
        summed=zeros,
        broken=jnp.zeros(reward.shape, bool),
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
        broken=tally.broken | (run & ~_all_finite(state)),
    )


def _all_finite(state: EnvState) -> jax.Array:
    """Where the reward and all metrics of a step are finite, [N] bool."""
    finite = jnp.isfinite(state.reward)
    for value in state.metrics.values():
        finite &= jnp.isfinite(value)
    return finite


def _summary(tally: Tally) -> dict[str, jax.Array]:
    broken = tally.broken | ~jnp.isfinite(tally.total)
    broken = broken.astype(jnp.float32)
    result = {'return': tally.total, 'length': tally.length, 'broken': broken}
    for name in tally.largest:
        result[f'{name}_max'] = tally.largest[name]
        result[f'{name}_final'] = tally.final[name]
        result[f'{name}_mean'] = tally.summed[name] / tally.length
    return result
