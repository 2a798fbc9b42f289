"""Chooses the rewards of a config's environment, and the goals that hindsight replaces."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import envs, types
from jaxpolicy.runs import environment


def apply(
    config: config_dict.ConfigDict, task: envs.Task, chosen: Any, env: types.Env
) -> types.Env:
    """The env with the rewards that the config asks for: the task's, a demonstration's or shaped.

    Args:
      chosen: the task's Config.

    Raises:
      ValueError: two groups ask for different rewards, or the task has no goals.
    """
    kind = config.loop.name
    scale = config.shaping.scale if kind in environment.SHAPED else 0.0
    if scale < 0.0:
        raise ValueError(f'config.shaping.scale: expected 0 or more, found {scale}')
    if kind in environment.DEMO_REWARDED and config.imitate.path:
        if scale:
            raise ValueError(
                f'config.imitate.path: expected none with shaping.scale, found '
                f'{config.imitate.path!r}'
            )
        from jaxpolicy.runs import imitate  # few runs need it

        return imitate.apply(config, env)
    if not scale:
        return env
    from jaxpolicy.envs.wrap import shaping  # few runs need it

    goals = goals_of(task, chosen, 'shaping.scale')

    def potential(obs: types.PyTree) -> jax.Array:
        return -scale * jnp.linalg.norm(goals.achieved(obs) - goals.wanted(obs))

    return shaping.shape_reward(env, potential, config.agent.gamma)


def goals_of(task: envs.Task, chosen: Any, key: str) -> types.Goals:
    """The goals of the task.

    Args:
      chosen: the task's Config.
      key: of the config, what needs the goals.

    Raises:
      ValueError: the task has none.
    """
    if task.goals is None:
        raise ValueError(
            f'config.env.name: expected a task with goals, such as reach or pick, for {key}, found '
            f'{task.name!r}'
        )
    return task.goals(chosen)


def for_hindsight(
    config: config_dict.ConfigDict, task: envs.Task, chosen: Any
) -> types.Goals | None:
    """The goals that hindsight replaces, or None where hindsight is off.

    Raises:
      ValueError: the task has no goals, its rewards do not follow from them, or its observations
        are disturbed, so that the goals in them are not true.
    """
    if not config.loop.hindsight_share:
        return None
    key = 'loop.hindsight_share'
    goals = goals_of(task, chosen, key)
    unfit = {
        'wrap': len(config.wrap) > 0,
        'loop.wrap': len(config.loop.wrap) > 0,
        'imitate.path': bool(config.imitate.path),
        'shaping.scale': config.shaping.scale > 0.0,
        'disturb.obs_delay': any(config.disturb.obs_delay),
        'disturb.obs_noise': config.disturb.obs_noise > 0.0,
        'disturb.hidden': len(config.disturb.hidden) > 0,
    }
    if found := [name for name, is_on in unfit.items() if is_on]:
        raise ValueError(f'config.{found[0]}: expected none with {key}')
    if config.env.get('reward') != 'sparse':
        raise ValueError(
            f"config.env.reward: expected 'sparse' with {key}, found {config.env.get('reward')!r}"
        )
    return goals
