"""Disturbances whose strength may be traced, for measuring what a policy bears.

As in `disturb`, they wrap an unbatched environment, inside its time limit, and what they remember
starts anew with every episode. Two things differ. Strengths may be arrays inside jit, so that one
compiled program serves all of them. And an episode's start depends on its key alone, not on how it
is disturbed: the randomness comes from the state's key after the reset, so that with the same keys
every disturbance meets the same starts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from jaxpolicy.envs.wrap import disturb
from jaxpolicy.types import Env, EnvState, Key

PyTree = Any


class Biased(struct.PyTreeNode):
    """The `sim` of an environment with biased observations."""

    bias: jax.Array  # [D], in the observation's units
    inner: PyTree


def noise_action(env: Env, std: ArrayLike) -> Env:
    """Gaussian noise on each action, which the environment clips afterwards.

    Args:
      std: of [A] or [], in units of the action.

    Raises:
      ValueError: an action is one of M choices.
    """
    disturb.check_continuous('action_noise', env)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        key, own = jax.random.split(state.key)
        noise = std * jax.random.normal(own, action.shape, action.dtype)
        return env.step(state.replace(key=key), action + noise)

    return Env(env.reset, step, env.spec)


def late_action(
    env: Env,
    delay: ArrayLike,
    most: int,
    idle: Callable[[EnvState], jax.Array] | None = None,
) -> Env:
    """Each action is executed `delay` steps late; `disturb.delay_action` draws its delay instead.

    Args:
      delay: [] int, steps, at most `most`.
      idle: the start's state -> the action [A] executed until the first one arrives; None: zeros.

    Raises:
      ValueError: an action is one of M choices.
    """
    late = disturb.delay_action(env, 0, most)

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        first = jnp.zeros(env.spec.action.shape) if idle is None else idle(state)
        queue = jnp.tile(first.astype(env.spec.action.dtype), (most + 1, 1))
        return state.replace(sim=disturb.Delayed(queue, jnp.asarray(delay, jnp.int32), state.sim))

    return Env(reset, late.step, env.spec)


def noise_obs(env: Env, std: ArrayLike) -> Env:
    """Gaussian noise on what the policy sees of a flat observation; `next_obs` has the same.

    Args:
      std: of each column, [D], or [].

    Raises:
      ValueError: the observation is not flat.
    """
    return _see(env, lambda obs, key: obs + std * jax.random.normal(key, obs.shape, obs.dtype))


def drop_obs(env: Env, probability: ArrayLike, fill: ArrayLike) -> Env:
    """At every step each column of a flat observation is missing with this probability.

    Args:
      probability: [] in [0, 1].
      fill: [D], what the policy sees instead.

    Raises:
      ValueError: the observation is not flat.
    """

    def drop(obs: jax.Array, key: Key) -> jax.Array:
        missing = jax.random.bernoulli(key, probability, obs.shape)
        return jnp.where(missing, fill, obs).astype(obs.dtype)

    return _see(env, drop)


def bias_obs(env: Env, std: ArrayLike) -> Env:
    """A constant error of a flat observation, drawn once per episode from a Gaussian.

    Args:
      std: of each column, [D], or [].

    Raises:
      ValueError: the observation is not flat.
    """
    shape = _size(env)

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        key, own = jax.random.split(state.key)
        bias = jnp.asarray(std) * jax.random.normal(own, shape)
        return see(state.replace(key=key), bias)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Biased = state.sim
        return see(env.step(state.replace(sim=sim.inner), action), sim.bias)

    def see(state: EnvState, bias: jax.Array) -> EnvState:
        obs = state.next_obs + bias
        return state.replace(obs=obs, next_obs=obs, sim=Biased(bias, state.sim))

    return Env(reset, step, env.spec)


def push_once(
    env: Env, size: ArrayLike, window: tuple[ArrayLike, ArrayLike], name: str = 'qvel'
) -> Env:
    """One push in an episode: each number of an array in the state changes by +size or -size.

    Args:
      size: of the change, [] or as the array.
      window: first and last step, counted from 0, before which it may come; uniform.
      name: of the array, 'qvel' for velocities.

    Raises (from `step`):
      ValueError: the environment's `sim` does not hold exactly one array of that name.
    """

    def reset(key: Key) -> EnvState:
        state = env.reset(key)
        key, own = jax.random.split(state.key)
        count = jax.random.randint(own, (), window[0], window[1] + 1)
        return state.replace(key=key, sim=disturb.Pushed(count, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: disturb.Pushed = state.sim
        key, own = jax.random.split(state.key)

        def kick(old: jax.Array) -> jax.Array:
            sign = jax.random.rademacher(own, old.shape, old.dtype)
            return jnp.where(sim.count == 0, old + size * sign, old)

        inner = disturb.changed(sim.inner, name, kick)
        state = env.step(state.replace(key=key, sim=inner), action)
        return state.replace(sim=disturb.Pushed(sim.count - 1, state.sim))

    return Env(reset, step, env.spec)


def hold(env: Env, interval: ArrayLike, relative: bool) -> Env:
    """The policy acts at every `interval`-th step of the environment only.

    A step is up to `interval` steps of `env`, fewer where the episode ends: its reward is their
    sum, the rest of the last one's. metrics['env_steps'] is how many there were.

    Args:
      interval: [] int, at least 1, the same for all worlds of a batch.
      relative: actions are changes of targets, so that zeros hold them between two decisions;
        otherwise they are targets, and the same action goes on.

    Raises:
      ValueError: `relative`, and an action is one of M choices.
    """
    if relative:
        disturb.check_continuous('relative', env)

    def reset(key: Key) -> EnvState:
        return counted(env.reset(key), jnp.zeros(()))

    def counted(state: EnvState, steps: jax.Array) -> EnvState:
        return state.replace(metrics=state.metrics | {'env_steps': steps})

    def step(state: EnvState, action: jax.Array) -> EnvState:
        known = {name: value for name, value in state.metrics.items() if name != 'env_steps'}
        zero, no = jnp.zeros_like(state.reward), jnp.zeros_like(state.termination)
        begun = state.replace(metrics=known, reward=zero, termination=no, truncation=no)

        def again(i: jax.Array, carry: tuple[EnvState, jax.Array]) -> tuple[EnvState, jax.Array]:
            old, steps = carry
            new = env.step(old, jnp.where(i == 0, action, 0.0) if relative else action)
            new = new.replace(reward=old.reward + new.reward)
            ended = old.termination | old.truncation
            return jax.tree.map(lambda a, b: jnp.where(ended, a, b), carry, (new, steps + 1.0))

        return counted(*jax.lax.fori_loop(0, interval, again, (begun, jnp.zeros(()))))

    return Env(reset, step, env.spec)


def _see(env: Env, disturb: Callable[[jax.Array, Key], jax.Array]) -> Env:
    """What the policy sees, disturbed anew at every step."""
    _size(env)

    def see(state: EnvState) -> EnvState:
        key, own = jax.random.split(state.key)
        obs = disturb(state.next_obs, own)
        return state.replace(obs=obs, next_obs=obs, key=key)

    return Env(lambda key: see(env.reset(key)), lambda s, a: see(env.step(s, a)), env.spec)


def _size(env: Env) -> tuple[int, ...]:
    """The shape [D] of a flat observation."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(env.spec.obs)]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f'expected a flat observation, found the shapes {shapes}')
    return shapes[0]
