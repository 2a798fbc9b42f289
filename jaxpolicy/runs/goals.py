"""What the config builds on an environment's goals: shaped rewards, and goals in hindsight."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import envs, types
from jaxpolicy.envs.wrap import shaping
from jaxpolicy.runs import demo_rewards as imitation


def of(config: config_dict.ConfigDict, chosen: Any, key: str) -> types.Goals:
    """The goals of the environment, which the config's `key` needs.

    Args:
      chosen: the environment's Config.

    Raises:
      ValueError: it has none.
    """
    if config.env.name not in envs.GOALS:
        raise ValueError(
            f'config.env.name: expected one of {sorted(envs.GOALS)} with {key}, found '
            f'{config.env.name!r}'
        )
    return envs.GOALS[config.env.name].goals(chosen)


def shape(config: config_dict.ConfigDict, chosen: Any, env: types.Env) -> types.Env:
    """The env with a reward for coming closer to its goal, if the config asks for it.

    Raises:
      ValueError: the scale is negative, the env has no goals, or another group gives the reward.
    """
    scale = config.shaping.scale if 'shaping' in config else 0.0  # older configs have none
    if scale < 0.0:
        raise ValueError(f'config.shaping.scale: expected 0 or more, found {scale}')
    if not scale:
        return env
    if imitation.is_on(config):
        raise ValueError('config.imitate.path: expected none with shaping.scale')
    goals = of(config, chosen, 'shaping.scale')

    def potential(obs: types.PyTree) -> jax.Array:
        return -scale * jnp.linalg.norm(goals.achieved(obs) - goals.wanted(obs))

    return shaping.shape_reward(env, potential, config.agent.gamma)


def for_hindsight(config: config_dict.ConfigDict, chosen: Any) -> types.Goals | None:
    """The goals that hindsight replaces, None where it is off.

    Raises:
      ValueError: the env has none, its rewards are not those that its goals say, or observations
        are disturbed, so that the goals in them are not true.
    """
    if not config.loop.hindsight_share:
        return None
    key = 'loop.hindsight_share'
    goals = of(config, chosen, key)
    unfit = {
        'imitate.path': imitation.is_on(config),
        'shaping.scale': config.shaping.scale > 0.0,
        'disturb.obs_delay': any(config.disturb.obs_delay),
        'disturb.obs_noise': config.disturb.obs_noise > 0.0,
        'disturb.hidden': len(config.disturb.hidden) > 0,
    }
    if found := [name for name, is_on in unfit.items() if is_on]:
        raise ValueError(f'config.{found[0]}: expected none with {key}')
    if config.env.reward != 'sparse':
        raise ValueError(
            f"config.env.reward: expected 'sparse' with {key}, found {config.env.reward!r}"
        )
    return goals
