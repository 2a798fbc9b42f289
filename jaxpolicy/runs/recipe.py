"""What recipes are made of: one function for each kind of run, filled from the library's defaults.

A recipe is a file with `get_config()` that calls one of these functions and changes what differs:

  from jaxpolicy.runs import recipe

  def get_config():
      config = recipe.on_policy('ppo', 'reach')
      config.loop.num_envs = 1024
      return config

The groups of a config, of which each kind of run has those that it uses (`runs.groups` has the
fields of most of them, and what they may hold):

agent      name, and the fields of that agent's Config
env        name, and the fields of that task's Config; the name '' is a robot without a simulator
wrap       functions Env -> Env by name, around the task; or pairs (name, {argument: value})
randomize  what the environment draws anew for every episode
shaping    a reward for coming closer to the goal, which leaves optimal policies as they are
imitate    the demonstration whose observations are the reward (off_policy only)
disturb    delays, noise, pushes and hidden columns
data       where demonstrations come from
normalize  what the agent sees through a normaliser
augment    noise on what is learnt from (imitation only)
teacher    the run that this one learns from (offline only)
execute    how chunks of actions are executed (imitation only)
expert     who is asked (dagger only)
begin      the run whose weights this one begins with
loop       how experience and updates alternate
eval       when and how the policy is evaluated while training
checkpoint when the run is saved
"""

import copy
import dataclasses
from typing import Any

from ml_collections import config_dict

from jaxpolicy import envs, registry
from jaxpolicy.envs.wrap import disturb
from jaxpolicy.io import settings
from jaxpolicy.runs import groups, kinds


def _fields(kind: type) -> dict[str, Any]:
    return dataclasses.asdict(kind())


def _without(group: Any, field: str) -> dict[str, Any]:
    return {name: x for name, x in dataclasses.asdict(group).items() if name != field}


WORLD = {  # groups that every kind of run has
    'wrap': (),
    'randomize': {},  # name: (fields, operation, distribution, a, b), see envs.wrap.randomize
    'disturb': _fields(disturb.Config),
    'begin': _fields(groups.Run),  # whose weights and normalisers this run begins with
}
SHAPING, IMITATE = _fields(groups.Shaping), _fields(groups.Imitate)
EXECUTE, TEACHER, RUN = map(_fields, (groups.Execute, groups.Teacher, groups.Run))
REWARDED = {'path': '', 'other_rewards': False}  # demonstrations with rewards, for loop.demo_share
_IMITATION = {**WORLD, 'augment': _fields(groups.Augment), 'execute': EXECUTE, 'data': {'tag': ''}}
NEUTRAL = {  # kind of run: what older recipes may lack, with values that turn it off
    'offline': {**_IMITATION, 'teacher': TEACHER},
    'dagger': {**_IMITATION, 'expert': RUN},
    'offline_rl': {**WORLD, 'data': {'other_rewards': False}},
    'on_policy': {**WORLD, 'shaping': SHAPING},
    'off_policy': {**WORLD, 'shaping': SHAPING, 'imitate': IMITATE, 'data': REWARDED},
}


def offline(agent: str, env: str, data_format: str, data_path: str) -> config_dict.ConfigDict:
    """The config of a run that learns chunks of actions from demonstrations."""
    return _config(
        agent=agent_group(agent),
        env=env_group(env),
        data=_without(groups.Data(data_format, data_path), 'other_rewards'),
        normalize={'obs': 'min_max', 'action': 'none'},  # 'min_max' or 'none'
        augment=_fields(groups.Augment),
        teacher=TEACHER,
        execute=EXECUTE,
        loop=loop_group('offline'),
        **_shared(env, ('deterministic',)),
    )


def dagger(agent: str, env: str, data_format: str, data_path: str) -> config_dict.ConfigDict:
    """The config of a run that learns from demonstrations, then from an expert's answers."""
    config = offline(agent, env, data_format, data_path)
    del config.teacher
    config.loop = config_dict.ConfigDict(loop_group('dagger'))
    config.expert = config_dict.ConfigDict(RUN)
    config.eval.every = 1
    config.checkpoint.every = 1
    return config


def on_policy(agent: str, env: str) -> config_dict.ConfigDict:
    """The config of a run that learns from the current policy's own experience."""
    return _config(
        agent=agent_group(agent),
        env=env_group(env),
        shaping=SHAPING,
        normalize={'obs': 'running', 'action': 'none'},  # obs: 'running' or 'none'
        loop=loop_group('on_policy'),
        **_shared(env, ('deterministic', 'stochastic')),
    )


def off_policy(agent: str, env: str) -> config_dict.ConfigDict:
    """The config of a run that learns from replayed experience, and perhaps demonstrations."""
    return _config(
        agent=agent_group(agent),
        env=env_group(env),
        shaping=SHAPING,
        normalize={'obs': 'none', 'action': 'none'},  # obs: 'running' or 'none'
        data=REWARDED,
        imitate=IMITATE,
        loop=loop_group('off_policy'),
        **_shared(env, ('deterministic', 'stochastic')),
    )


def offline_rl(agent: str, env: str, data_path: str) -> config_dict.ConfigDict:
    """The config of a run that learns values from demonstrations with rewards.

    `experiments.collect` writes such demonstrations.
    """
    return _config(
        agent=agent_group(agent),
        env=env_group(env),
        normalize={'obs': 'min_max', 'action': 'none'},
        data={
            'format': 'episodes',
            'path': data_path,  # or several, with commas
            'num_episodes': 0,  # a random subset of the episodes of all files; 0: all
            'subset_seed': 42,
            'other_rewards': False,  # see REWARDED
        },
        loop=loop_group('offline_rl'),
        **_shared(env, ('deterministic', 'stochastic')),
    )


def agent_group(name: str) -> dict[str, Any]:
    """The group `agent`: a name and the defaults of its Config."""
    module = registry.resolve('agents', name, 'config.agent.name')
    return {'name': name, **dataclasses.asdict(module.Config())}


def env_group(name: str) -> dict[str, Any]:
    """The group `env`: a name and the defaults of the task's Config; '' has none."""
    if not name:
        return {'name': ''}
    return {'name': name, **dataclasses.asdict(envs.resolve(name).config)}


def exchange_env(group: dict[str, Any], name: str) -> dict[str, Any]:
    """The group `env` of another task, for a config whose task is exchanged by its name alone.

    Its fields are the defaults of that task. Of two tasks of one suite, what the config had
    changed stays: the fields that differ from the defaults of the task that it had.

    Args:
      group: that of the task that the config had.

    Raises:
      ValueError: there is no task of this name.
      ImportError: its simulator is not installed.
    """
    new, suite = env_group(name), name.partition('/')[0]
    if '/' not in name or group['name'].partition('/')[0] != suite:
        return new
    had = env_group(group['name'])
    changed = {key for key in new.keys() & group.keys() if group[key] != had.get(key)}
    return new | {key: group[key] for key in changed if key != 'name'}


settings.EXCHANGES['env'] = exchange_env  # for `--config.env.name=...`


def loop_group(kind: str) -> dict[str, Any]:
    """The group `loop` of a kind of run, with its defaults."""
    return {'name': kind, **dataclasses.asdict(kinds.module_of(kind).Settings())}


def _shared(env: str, modes: tuple[groups.Mode, ...]) -> dict[str, Any]:
    every = 10 if env else 0  # without a simulator nothing is evaluated
    return {
        **WORLD,
        'eval': dataclasses.asdict(groups.Eval(every=every, modes=modes)),
        'checkpoint': _fields(groups.Checkpoint),
    }


def _config(**groups: Any) -> config_dict.ConfigDict:
    return config_dict.ConfigDict(copy.deepcopy(groups))
