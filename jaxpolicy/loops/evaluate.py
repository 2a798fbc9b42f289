"""Evaluation of policies in whole episodes, where steps after an episode's first end do not count.

An episode also ends where it breaks, as `envs.wrap.auto_reset.broken` says: where an observation,
an action, a reward, a metric or the simulation holds a number that is none. The step that broke it
does not count, and of such an episode only 'broken' and 'length' are known.

`evaluate` runs environments on the device in one scan, `evaluate_and_trace` also keeps every step
of some, and `evaluate_host` steps simulators outside JAX. `evaluate` and `evaluate_host` give
arrays with one number per episode, so that the caller can report n and a confidence interval.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.types import Env, EnvState, HostEnv, Key, Policy, PyTree


class Tally(struct.PyTreeNode):
    """Running sums over N episodes, and which of the episodes still run."""

    running: jax.Array  # [N] bool
    total: jax.Array  # [N] sum of the rewards
    length: jax.Array  # [N] int32
    largest: dict[str, jax.Array]  # [N] per metric
    final: dict[str, jax.Array]
    summed: dict[str, jax.Array]
    broken: jax.Array  # [N] bool: the episode ended because it broke


class Trace(struct.PyTreeNode):
    """What happened in the first P of N episodes, step by step."""

    metrics: dict[str, jax.Array]  # [T, P], after each step
    valid: jax.Array  # [T, P] bool, True for the 'length' steps that count of each episode
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
      Arrays [N]: 'return', 'length' (steps that count), 'broken' (1 where the episode broke, else
      0), and f'{m}_max', f'{m}_final' and f'{m}_mean' of each metric m of the environment, taken
      over the steps up to the episode's first end. Where an episode broke, all but 'length' and
      'broken' are NaN, so that nobody mistakes half an episode for a whole one.
    """
    return evaluate_and_trace(env, policy, keys, act_key, num_steps, 0, 0)[0]


def metric_names(metrics: Iterable[str]) -> list[str]:
    """The names that `evaluate` returns for an environment with these metrics."""
    ends = [f'{name}_{end}' for name in metrics for end in ('max', 'final', 'mean')]
    return ['return', 'length', 'broken', *ends]


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
    carry = (state, policy.init(state.obs), _start(state))

    def step(carry, t):
        state, memory, tally = carry
        key = jax.random.fold_in(act_key, t)
        memory, action, _ = policy.act(memory, state.obs, key)
        state = env.step(state, action)
        broke = auto_reset.broken(state, action)
        counts = tally.running & ~broke
        metrics, valid = jax.tree.map(lambda x: x[:num_traced], (state.metrics, counts))
        kept = Trace(metrics, valid, jax.tree.map(lambda x: x[:num_states], state))
        return (state, memory, _add(tally, state, broke)), kept

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
    broken = np.asarray(auto_reset.unsound(obs))
    running = ~broken
    rewards, valid = [], []
    metrics: dict[str, list[Any]] = {}
    for t in range(num_steps):
        memory, action, _ = policy.act(memory, obs, jax.random.fold_in(key, t))
        action = np.asarray(action)
        obs, reward, termination, values = env.step(np.where(np.isfinite(action), action, 0))
        broke = running & np.asarray(auto_reset.unsound((obs, reward, values, action)))
        running, broken = running & ~broke, broken | broke
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
    result = {'return': np.where(broken, np.nan, total), 'length': length}
    for name, values in metrics.items():
        value = np.stack(values)  # [T, N]
        found = {
            'max': np.where(mask, value, -np.inf).max(0),
            'final': value[length - 1, np.arange(len(length))],
            'mean': np.where(mask, value, 0.0).sum(0) / np.maximum(length, 1),
        }
        result |= {f'{name}_{kind}': np.where(broken, np.nan, x) for kind, x in found.items()}
    return result | {'broken': broken.astype(np.float32)}


def _start(state: EnvState) -> Tally:
    """The sums before the first step; an episode may start broken."""
    reward, broken = state.reward, auto_reset.broken(state)
    zeros = {name: jnp.zeros(value.shape, jnp.float32) for name, value in state.metrics.items()}
    return Tally(
        running=~broken,
        total=jnp.zeros(reward.shape, jnp.float32),
        length=jnp.zeros(reward.shape, jnp.int32),
        largest={name: jnp.full(zero.shape, -jnp.inf) for name, zero in zeros.items()},
        final=zeros,
        summed=zeros,
        broken=broken,
    )


def _add(tally: Tally, state: EnvState, broke: jax.Array) -> Tally:
    """The sums after a step, which counts where the episode ran and the step did not break it."""
    run = tally.running & ~broke

    def keep(new: dict[str, jax.Array], old: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: jnp.where(run, new[name], old[name]) for name in old}

    return tally.replace(
        running=run & ~(state.termination | state.truncation),
        total=tally.total + jnp.where(run, state.reward, 0.0),
        length=tally.length + run,
        largest=keep(jax.tree.map(jnp.maximum, tally.largest, state.metrics), tally.largest),
        final=keep(state.metrics, tally.final),
        summed=keep(jax.tree.map(jnp.add, tally.summed, state.metrics), tally.summed),
        broken=tally.broken | (tally.running & broke),
    )


def _summary(tally: Tally) -> dict[str, jax.Array]:
    found = {'return': tally.total}
    for name in tally.largest:
        found[f'{name}_max'] = tally.largest[name]
        found[f'{name}_final'] = tally.final[name]
        found[f'{name}_mean'] = tally.summed[name] / tally.length
    found = {name: jnp.where(tally.broken, jnp.nan, value) for name, value in found.items()}
    return found | {'length': tally.length, 'broken': tally.broken.astype(jnp.float32)}
