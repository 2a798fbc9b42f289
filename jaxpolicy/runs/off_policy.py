"""Runs that learn from replayed experience, and from demonstrations beside it if asked to."""

import dataclasses
from typing import Any

import jax
from ml_collections import config_dict

from jaxpolicy import ranges, types
from jaxpolicy.loops import off_policy
from jaxpolicy.runs import beginning, environment, kinds, learner, sections


@dataclasses.dataclass(frozen=True)
class Settings(off_policy.Config):
    """The fields of the config's group `loop`."""

    num_env_steps: ranges.Total = 100_000  # with the random ones; rounded up to whole rounds
    wrap: tuple[Any, ...] = ()  # as config.wrap, around it, in training alone


def make(config: config_dict.ConfigDict, env: types.Env | None = None) -> kinds.Run:
    """Makes the run; `env`, vectorised and time-limited, replaces the config's environment."""
    settings, goals = check(config), None
    at_random = settings.num_envs * off_policy.num_random_steps(settings)
    per_round = sections.round_of(settings, at_random)
    if env is None:
        env = environment.make_env(config, training=True)
        if settings.hindsight_share:
            from jaxpolicy.runs import rewards  # few runs need it

            goals = rewards.for_hindsight(config, *environment.on_device(config))
    elif settings.hindsight_share:
        raise ValueError(
            f'config.loop.hindsight_share: expected 0 for an environment of your own, whose goals '
            f'are not known here, found {settings.hindsight_share}'
        )
    data: types.PyTree = ()
    mark = _mark_of_demonstration(config)
    if settings.demo_share:
        from jaxpolicy.data import demo_buffer
        from jaxpolicy.runs import dataset

        episodes = dataset.load_episodes(config, rewarded=True)
        sections.check_fit(config, dataset.spec_of(episodes), env.spec)
        data, mark = demo_buffer.from_episodes(episodes), dataset.fingerprint(episodes)

    def loop_of(numbers):
        agent = learner.make_agent(config, env.spec, numbers=numbers)
        gamma = numbers.get('gamma', config.agent.gamma)
        return off_policy.make(env, agent, settings, gamma, config.env.episode_steps, goals)

    agent = learner.make_agent(config, env.spec)
    parts = (env, agent, settings, config.agent.gamma, config.env.episode_steps, goals)
    loop, traced = off_policy.make(*parts), None
    if settings.buffer_on == 'host':
        from jaxpolicy.loops import off_policy_host

        loop, traced = off_policy_host.make(*parts), loop
        data = jax.device_put(data, jax.devices('cpu')[0])
    return kinds.Run(
        loop=loop,
        data=data,
        num_rounds=max(-(-(settings.num_env_steps - at_random) // per_round), 1),
        spec=env.spec,
        fingerprint=mark,
        is_sharded=True,
        traced=traced,
        begin=beginning.opener(config, agent),
        loop_of=None if traced else loop_of,
    )


def _mark_of_demonstration(config: config_dict.ConfigDict) -> str:
    """Text that identifies the demonstration that gives the reward; '' where none does."""
    if not config.imitate.path:
        return ''
    from jaxpolicy.runs import imitate  # few runs need it

    return imitate.fingerprint(config)


def check(config: config_dict.ConfigDict) -> Settings:
    """The group `loop` as `Settings`, after its numbers were checked.

    Raises:
      ValueError: a number is out of its range, or does not go with another one.
    """
    settings = sections.section(Settings, config.loop, 'loop')
    if settings.demo_share and (config.imitate.path or config.shaping.scale):
        raise ValueError(
            'config.loop.demo_share: expected 0 with imitate.path or shaping.scale, as rewards of '
            f'demonstrations are those of the task, found {settings.demo_share}'
        )
    if settings.demo_share and not round(settings.demo_share * settings.batch_size):
        raise ValueError(
            f'config.loop.demo_share: expected 0 or at least half a sample of the '
            f'{settings.batch_size} of a batch, found {settings.demo_share}'
        )
    if config.data.path and not settings.demo_share:
        raise ValueError(
            f"config.data.path: expected '' with loop.demo_share=0, which uses no demonstrations, "
            f'found {config.data.path!r}'
        )
    if settings.demo_share and not config.data.path:
        raise ValueError(
            'config.data.path: expected a file of demonstrations for config.loop.demo_share, '
            "found ''"
        )
    if settings.demo_share and settings.priority_exponent:
        raise ValueError('config.loop.priority_exponent: expected 0 with demonstrations')
    at_random = settings.num_envs * off_policy.num_random_steps(settings)
    rollout = settings.num_envs * settings.rollout_length
    if settings.buffer_size < (least := max(at_random, rollout, settings.num_envs)):
        raise ValueError(
            f'config.loop.buffer_size: expected at least the {least} steps of the random beginning '
            f'or of a rollout, found {settings.buffer_size}'
        )
    if not settings.priority_beta_steps:
        settings = dataclasses.replace(settings, priority_beta_steps=settings.num_env_steps)
    return settings
