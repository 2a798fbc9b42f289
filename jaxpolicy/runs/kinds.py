"""From a config to a run: the loop, its data and how much of both there is."""

import dataclasses
from typing import Any

import jax
from ml_collections import config_dict

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.loops import off_policy, off_policy_host, offline, on_policy
from jaxpolicy.runs import build
from jaxpolicy.runs import demo_rewards as imitation
from jaxpolicy.runs import goals as goals_lib

PyTree = Any


def make_run(config: config_dict.ConfigDict) -> build.Run:
    """Everything that training needs.

    Raises:
      ValueError: the config names what is not there, or its numbers do not fit.
    """
    fits = {name: maker for name, (key, maker) in MAKERS.items() if key in config.loop}
    maker = build.choose('loop.name', fits, config.loop.name)
    check_counts(config.loop, may_be_zero=MAY_BE_ZERO)
    return maker(config)


def check_counts(loop: config_dict.ConfigDict, may_be_zero: tuple[str, ...]) -> None:
    """Raises a ValueError where a number of the loop is below 1, or below 0 if it may be that."""
    for key, value in loop.items():
        least = 0 if key in may_be_zero else 1
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if value < least:
            raise ValueError(f'config.loop.{key}: expected at least {least}, found {value}')


def _offline(config: config_dict.ConfigDict) -> build.Run:
    episodes = build.load_episodes(config)
    spec = build.spec_of(episodes)
    horizons = (config.agent.obs_horizon, config.agent.pred_horizon, config.agent.action_horizon)
    data = windows.make(episodes, *horizons, config.data.get('tag', ''))
    num_updates = offline.num_updates(windows.num_windows(data), config.loop.batch_size)
    num_steps = -(-config.loop.num_epochs // config.loop.epochs_per_round)
    updates_per_step = num_updates * config.loop.epochs_per_round
    agent = build.make_agent(config, spec, num_steps * updates_per_step, episodes)
    loop = offline.make(agent, config.loop.batch_size, config.loop.epochs_per_round)
    return build.Run(loop, data, num_steps, updates_per_step, 0, spec, build.fingerprint(episodes))


def _on_policy(config: config_dict.ConfigDict) -> build.Run:
    env = build.make_env(config)
    settings = config.loop
    loop = on_policy.make(
        env,
        build.make_agent(config, env.spec),
        num_envs=settings.num_envs,
        rollout_length=settings.rollout_length,
        iterations_per_round=settings.iterations_per_round,
        episode_steps=config.env.episode_steps,
        pool_size=settings.pool_size,
    )
    per_step = settings.num_envs * settings.rollout_length * settings.iterations_per_round
    num_steps = -(-settings.num_env_steps // per_step)
    return build.Run(loop, (), num_steps, settings.iterations_per_round, per_step, env.spec, '')


def _off_policy(config: config_dict.ConfigDict) -> build.Run:
    """Learning from replayed experience, and from demonstrations if the config names some."""
    env, settings = build.make_env(config), _off_policy_settings(config)
    goals = goals_lib.for_hindsight(config, build.env_module(config)[1])
    data: PyTree = ()
    mark = imitation.fingerprint(config) if imitation.is_on(config) else ''
    if settings.demo_share:
        episodes = episodes_lib.load(config.data.path)
        build.check_fit(config, build.spec_of(episodes), env.spec)
        data, mark = buffer_lib.from_episodes(episodes), build.fingerprint(episodes)
    agent = build.make_agent(config, env.spec)
    gamma, limit = config.agent.gamma, config.env.episode_steps
    parts = (env, agent, settings, gamma, limit, goals)
    loop, traced = off_policy.make(*parts), None
    if settings.buffer_on == 'host':
        loop, traced = off_policy_host.make(*parts), loop
        data = jax.device_put(data, jax.devices('cpu')[0])
    iterations = settings.iterations_per_round
    per_step = settings.num_envs * settings.rollout_length * iterations
    first = settings.num_envs * off_policy.num_random_steps(settings)
    num_steps = max(-(-(config.loop.num_env_steps - first) // per_step), 1)
    updates = iterations * settings.num_minibatches
    return build.Run(
        loop,
        data,
        num_steps,
        updates,
        per_step,
        env.spec,
        mark,
        first_env_steps=first,
        traced=traced,
    )


def _off_policy_settings(config: config_dict.ConfigDict) -> off_policy.Config:
    """The numbers of the loop, checked."""
    names = [field.name for field in dataclasses.fields(off_policy.Config)]
    settings = off_policy.Config(**{name: config.loop[name] for name in names})
    for name in ('demo_share', 'hindsight_share', 'priority_exponent', 'priority_beta'):
        if (found := getattr(settings, name)) > 1.0:
            raise ValueError(f'config.loop.{name}: expected 0 to 1, found {found}')
    build.choose('loop.buffer_on', dict.fromkeys(('device', 'host')), settings.buffer_on)
    if settings.demo_share and settings.priority_exponent:
        raise ValueError('config.loop.priority_exponent: expected 0 with demonstrations')
    random = settings.num_envs * off_policy.num_random_steps(settings)
    rollout = settings.num_envs * settings.rollout_length
    if settings.buffer_size < (least := max(random, rollout, settings.num_envs)):
        raise ValueError(
            f'config.loop.buffer_size: expected at least the {least} steps of the random beginning '
            f'or of a rollout, found {settings.buffer_size}'
        )
    return settings


def _offline_rl(config: config_dict.ConfigDict) -> build.Run:
    """Learning values from demonstrations with rewards."""
    episodes = build.load_episodes(config)
    spec, settings = build.spec_of(episodes), config.loop
    data = buffer_lib.from_episodes(episodes)
    agent = build.make_agent(config, spec, settings.num_updates, episodes)
    loop = offline.replay(
        agent,
        settings.batch_size,
        settings.updates_per_round,
        settings.n_step,
        config.agent.gamma,
    )
    num_steps = -(-settings.num_updates // settings.updates_per_round)
    mark = build.fingerprint(episodes)
    return build.Run(loop, data, num_steps, settings.updates_per_round, 0, spec, mark)


MAKERS = {  # name: (what only its recipes have in config.loop, maker)
    'offline': ('num_epochs', _offline),
    'offline_rl': ('num_updates', _offline_rl),
    'off_policy': ('buffer_size', _off_policy),
    'on_policy': ('iterations_per_round', _on_policy),
}
MAY_BE_ZERO = (
    *('pool_size', 'learning_starts', 'demo_share', 'hindsight_share'),
    *('priority_exponent', 'priority_beta'),
)
