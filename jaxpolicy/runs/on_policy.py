"""Runs that learn from the current policy's own experience."""

import dataclasses
from typing import Any

from ml_collections import config_dict

from jaxpolicy import ranges, types
from jaxpolicy.loops import on_policy
from jaxpolicy.runs import beginning, environment, kinds, learner, sections


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of the config's group `loop`."""

    num_envs: ranges.Count = 512
    rollout_length: ranges.Count = 16
    num_env_steps: ranges.Total = 2_000_000  # rounded up to whole rounds
    pool_size: ranges.CountOrZero = 0  # fresh starts for each rollout; 0: chosen by loops.on_policy
    iterations_per_round: ranges.Count = 10  # rollouts of one compiled call and one row of metrics
    wrap: tuple[Any, ...] = ()  # as config.wrap, around it, in training alone


def make(config: config_dict.ConfigDict, env: types.Env | None = None) -> kinds.Run:
    """Makes the run; `env`, vectorised and time-limited, replaces the config's environment."""
    settings = sections.section(Settings, config.loop, 'loop')
    per_round = sections.round_of(settings)
    env = environment.make_env(config, training=True) if env is None else env
    agent = learner.make_agent(config, env.spec)

    def loop(agent):
        return on_policy.make(
            env,
            agent,
            num_envs=settings.num_envs,
            rollout_length=settings.rollout_length,
            iterations_per_round=settings.iterations_per_round,
            episode_steps=config.env.episode_steps,
            pool_size=settings.pool_size,
        )

    return kinds.Run(
        loop=loop(agent),
        data=(),
        num_rounds=-(-settings.num_env_steps // per_round),
        spec=env.spec,
        is_sharded=True,
        begin=beginning.opener(config, agent),
        loop_of=lambda numbers: loop(learner.make_agent(config, env.spec, numbers=numbers)),
    )
