"""Env -> Env: disturbances, which are pushes, late actions or observations, noise, hidden columns.

They wrap an unbatched environment, before `time_limit` does. What they remember starts anew with
every episode, and delays are drawn once per episode. `apply` wraps them in this order, from the
inside: pushes act on the robot, actions arrive late, observations arrive late, observations get
noise, and columns of the observations are hidden.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.types import Env, EnvState, Key, is_discrete

PyTree = Any
Delays = Annotated[tuple[int, int], ranges.Range(0, 1_000), ranges.Rising()]


@dataclasses.dataclass(frozen=True)
class Config:
    """How the environment is disturbed; a disturbance whose numbers are zero is off."""

    action_delay: Delays = (0, 0)  # steps, least and most that an episode may draw
    obs_delay: Delays = (0, 0)  # steps, least and most that an episode may draw
    obs_noise: ranges.NonNegative = 0.0  # standard deviation, in the observation's own units
    push_interval: ranges.CountOrZero = 0  # steps from push to push, the first one at random
    push_speed: ranges.NonNegative = 0.0  # largest change of each joint's velocity, rad/s or m/s
    hidden: Annotated[tuple[int, ...], ranges.Range(0)] = ()  # columns that the policy reads as 0


class Delayed(struct.PyTreeNode):
    """The `sim` of an environment with late actions or observations."""

    queue: PyTree  # leaves [most + 1, ...], newest first
    delay: jax.Array  # [] int32, steps
    inner: PyTree


class Pushed(struct.PyTreeNode):
    """The `sim` of an environment that is pushed."""

    count: jax.Array  # [] int32, steps until the next push
    inner: PyTree


def apply(env: Env, config: Config) -> Env:
    """Wraps the environment in all disturbances that are on.

    Raises:
      ValueError: a number is out of range, or actions are to be delayed where an action is one of M
        choices. `step` raises one where pushes find no velocity to change.
    """
    if config.push_interval or config.push_speed:
        env = push(env, config.push_interval, config.push_speed)
    if any(config.action_delay):
        env = delay_action(env, *config.action_delay)
    if any(config.obs_delay):
        env = delay_obs(env, *config.obs_delay)
    if config.obs_noise:
        env = noise_obs(env, config.obs_noise)
    if config.hidden:
        env = hide_obs(env, config.hidden)
    return env


def delay_action(env: Env, fewest: int, most: int) -> Env:
    """Executes each action `delay` steps late, and zeros until the first action arrives.

    The delay of an episode is uniform in fewest..most.

    Raises:
      ValueError: the range is wrong, or an action is one of M choices, none of which is zero.
    """
    _check_delay('action_delay', fewest, most)
    check_continuous('action_delay', env)

    def reset(key: Key) -> EnvState:
        inner_key, delay_key = jax.random.split(key)
        state = env.reset(inner_key)
        queue = jnp.zeros((most + 1, *env.spec.action.shape), env.spec.action.dtype)
        delay = jax.random.randint(delay_key, (), fewest, most + 1)
        return state.replace(sim=Delayed(queue, delay, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Delayed = state.sim
        queue = _pushed_back(sim.queue, action)
        state = env.step(state.replace(sim=sim.inner), queue[sim.delay])
        return state.replace(sim=Delayed(queue, sim.delay, state.sim))

    return Env(reset, step, env.spec)


def delay_obs(env: Env, fewest: int, most: int) -> Env:
    """Shows the policy the observation of `delay` steps ago, at first the episode's first one.

    `next_obs` is delayed too. The delay of an episode is uniform in fewest..most.
    """
    _check_delay('obs_delay', fewest, most)

    def reset(key: Key) -> EnvState:
        inner_key, delay_key = jax.random.split(key)
        state = env.reset(inner_key)
        queue = jax.tree.map(lambda x: jnp.stack([x] * (most + 1)), state.obs)
        delay = jax.random.randint(delay_key, (), fewest, most + 1)
        return state.replace(sim=Delayed(queue, delay, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Delayed = state.sim
        state = env.step(state.replace(sim=sim.inner), action)
        queue = jax.tree.map(_pushed_back, sim.queue, state.next_obs)
        seen = jax.tree.map(lambda x: x[sim.delay], queue)
        return state.replace(obs=seen, next_obs=seen, sim=Delayed(queue, sim.delay, state.sim))

    return Env(reset, step, env.spec)


def noise_obs(env: Env, std: float) -> Env:
    """Adds Gaussian noise to what the policy sees, and nowhere else; `next_obs` has the same noise.

    Args:
      std: standard deviation in the units of the observation, the same for all of its floats.
        Integers, such as those of pictures, stay as they are.
    """
    if std < 0:
        raise ValueError(f'disturb.obs_noise: expected 0 or more, found {std}')

    def noisy_leaf(x: jax.Array, key: Key) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x + std * jax.random.normal(key, x.shape, x.dtype)

    def noisy(obs: PyTree, key: Key) -> PyTree:
        leaves, tree = jax.tree.flatten(obs)
        return jax.tree.unflatten(tree, map(noisy_leaf, leaves, jax.random.split(key, len(leaves))))

    def see(state: EnvState) -> EnvState:
        key, noise_key = jax.random.split(state.key)
        obs = noisy(state.next_obs, noise_key)
        return state.replace(obs=obs, next_obs=obs, key=key)

    return Env(lambda key: see(env.reset(key)), lambda s, a: see(env.step(s, a)), env.spec)


def hide_obs(env: Env, columns: Sequence[int]) -> Env:
    """Sets these columns of a flat observation to 0, in `obs` and in `next_obs`.

    Raises:
      ValueError: the observation is not flat, or it has no such column.
    """
    leaves = jax.tree.leaves(env.spec.obs)
    shapes = [leaf.shape for leaf in leaves]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f'disturb.hidden: expected a flat observation, found {shapes}')
    size = shapes[0][0]
    if wrong := [column for column in columns if not 0 <= column < size]:
        raise ValueError(f'disturb.hidden: expected columns in [0, {size}), found {wrong}')
    seen = np.ones(size, bool)
    seen[list(columns)] = False

    def see(state: EnvState) -> EnvState:
        obs = jax.tree.map(lambda x: jnp.where(seen, x, 0), state.next_obs)
        return state.replace(obs=obs, next_obs=obs)

    return Env(lambda key: see(env.reset(key)), lambda s, a: see(env.step(s, a)), env.spec)


def push(env: Env, interval: int, speed: float) -> Env:
    """Changes every velocity by a uniform draw within `speed`, once in `interval` steps.

    The first push of an episode comes after a random number of steps.

    Raises:
      ValueError: a number is not positive. `step` raises one if the environment's `sim` does not
        hold exactly one array called 'qvel'.
    """
    if interval < 1 or speed <= 0:
        raise ValueError(
            f'disturb: expected push_interval >= 1 and push_speed > 0, found {interval} and {speed}'
        )

    def reset(key: Key) -> EnvState:
        inner_key, count_key = jax.random.split(key)
        state = env.reset(inner_key)
        count = jax.random.randint(count_key, (), 0, interval)
        return state.replace(sim=Pushed(count, state.sim))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Pushed = state.sim
        key, push_key = jax.random.split(state.key)
        inner = _kicked(sim.inner, push_key, jnp.where(sim.count == 0, speed, 0.0))
        state = env.step(state.replace(sim=inner, key=key), action)
        count = jnp.where(sim.count == 0, interval - 1, sim.count - 1)
        return state.replace(sim=Pushed(count, state.sim))

    return Env(reset, step, env.spec)


def changed(sim: PyTree, name: str, function: Callable[[jax.Array], jax.Array]) -> PyTree:
    """Replaces the one array called `name` in a state by a function of it.

    Raises:
      ValueError: there is no such array, or there are several.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(sim)
    names = [jax.tree_util.keystr(path[-1:], simple=True) for path, _ in leaves]
    found = [i for i, other in enumerate(names) if other == name]
    if len(found) != 1:
        raise ValueError(f'push: expected one array {name!r} in the state, found {len(found)}')
    values = [leaf for _, leaf in leaves]
    values[found[0]] = function(values[found[0]])
    return jax.tree.unflatten(tree, values)


def check_continuous(name: str, env: Env) -> None:
    """Raises a ValueError where an action is one of M choices."""
    if is_discrete(env.spec):
        raise ValueError(
            f'{name}: expected an env whose actions lie in [-1, 1], '
            f'found one with {env.spec.action.shape[0]} choices'
        )


def _kicked(sim: PyTree, key: Key, speed: jax.Array) -> PyTree:
    """Changes the numbers of the one array 'qvel' in a state by up to `speed` each."""

    def kick(old: jax.Array) -> jax.Array:
        return old + speed * jax.random.uniform(key, old.shape, old.dtype, -1.0, 1.0)

    return changed(sim, 'qvel', kick)


def _pushed_back(queue: jax.Array, new: jax.Array) -> jax.Array:
    return jnp.concatenate([new[None].astype(queue.dtype), queue[:-1]])


def _check_delay(name: str, fewest: int, most: int) -> None:
    if not 0 <= fewest <= most:
        raise ValueError(f'disturb.{name}: expected 0 <= fewest <= most, found {(fewest, most)}')
