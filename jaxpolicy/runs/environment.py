"""Builds the environment of a config."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from jaxpolicy import envs, registry, types
from jaxpolicy.envs.wrap import disturb, time_limit, vectorize
from jaxpolicy.runs import sections

SHAPED = ('on_policy', 'off_policy')  # kinds of runs whose recipes have the group `shaping`
DEMO_REWARDED = ('off_policy',)  # kinds of runs whose recipes have the group `imitate`


def task_of(config: config_dict.ConfigDict) -> tuple[envs.Task, Any]:
    """The task that the config names, and its Config.

    Raises:
      ValueError: there is no such task, the fields are those of another one, or the run has no
        simulator.
    """
    name = config.env.name
    if not name:
        raise ValueError("config.env.name: expected a task, found '': this run has no simulator")
    task = envs.resolve(name)
    chosen = sections.section(type(task.config), config.env, 'env')
    if 'task' in config.env and config.env.task != task.config.task:
        raise ValueError(
            f'env.task: expected {task.config.task!r} as in env.name, found {config.env.task!r}'
        )
    return task, chosen


def on_device(config: config_dict.ConfigDict) -> tuple[envs.Task, Any]:
    """The task that the config names, which has to run on the device, and its Config.

    Raises:
      ValueError: the simulator of the task runs outside JAX; or as `task_of`.
    """
    task, chosen = task_of(config)
    if task.make is None:
        raise ValueError(
            f'config.env.name: expected an env on the device, found {config.env.name!r}; '
            "'pusht' is Push-T there"
        )
    return task, chosen


def make_env(
    config: config_dict.ConfigDict,
    within: Callable[[types.Env], types.Env] | None = None,
    training: bool = False,
) -> types.Env:
    """Builds the environment: randomised, wrapped, rewarded, disturbed, time-limited, vectorised.

    Args:
      within: a wrapper that goes inside the rewards and the disturbances.
      training: whether the wrappers of config.loop.wrap, which only training has, go around those
        of config.wrap.
    """
    task, chosen = on_device(config)
    env = randomized(task, chosen, config.randomize)
    env = wrapped(env, config.wrap)
    env = wrapped(env, config.loop.wrap, 'config.loop.wrap') if training else env
    env = within(env) if within else env
    if has_rewards_of_its_own(config):
        from jaxpolicy.runs import rewards  # few runs need it

        env = rewards.apply(config, task, chosen, env)
    env = disturb.apply(env, sections.section(disturb.Config, config.disturb, 'disturb'))
    return vectorize.vectorize(time_limit.time_limit(env, chosen.episode_steps))


def has_rewards_of_its_own(config: config_dict.ConfigDict) -> bool:
    """Whether the config asks for other rewards than those of the task."""
    kind = config.loop.name
    if kind in SHAPED and config.shaping.scale:
        return True
    return kind in DEMO_REWARDED and bool(config.imitate.path)


def randomized(task: envs.Task, chosen: Any, entries: Any) -> types.Env:
    """The task alone; with entries of config.randomize, each episode draws its physics anew.

    Raises:
      ValueError: there are entries, and the task cannot be randomised.
    """
    assert task.make is not None
    if not entries:
        return task.make(chosen)
    if not task.randomizable:
        raise ValueError(
            f'config.randomize: expected a task whose physics can be randomised, such as detour, '
            f'pick, reach or playground/<task>, found {task.name!r}'
        )
    from jaxpolicy.envs.wrap import randomize  # few runs need it

    return task.make(chosen, randomize.drawer(randomize.parse(entries)))


def wrapped(env: types.Env, entries: Sequence[Any], key: str = 'config.wrap') -> types.Env:
    """Puts the wrappers of the config around the env, the first one innermost.

    Args:
      entries: names of functions Env -> Env, or pairs (name, {argument: value}).
      key: where they were given, for messages.

    Raises:
      ValueError: an entry is neither, or nothing has its name.
    """
    for entry in entries:
        pair = (entry, {}) if isinstance(entry, str) else entry
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], Mapping)):
            raise ValueError(
                f'{key}: expected names or pairs (name, {{argument: value}}), found {entry!r}'
            )
        name, fields = pair
        wrapper = registry.resolve('wrappers', name, key)
        try:
            inspect.signature(wrapper).bind(env, **dict(fields))
        except TypeError as error:
            raise ValueError(f'{key}: {name!r}: {error}') from error
        try:
            env = wrapper(env, **dict(fields))
        except ValueError as error:
            raise ValueError(f'{key}: {name!r}: {error}') from error
        if not isinstance(env, types.Env):
            kind = type(env).__name__
            raise ValueError(f'{key}: expected an Env of {name!r}, found {kind}')
    return env
