"""What recipes are made of: one function for each kind of run, filled from the library's defaults.

A recipe is a file with `get_config()` that calls one of these functions and changes what differs:

  from jaxpolicy.runs import recipe

  def get_config():
      config = recipe.on_policy('ppo', 'reach')
      config.loop.num_envs = 1024
      return config

The groups of a config, of which each kind of run has those that it uses:

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
from jaxpolicy.runs import kinds

# A run whose weights and normalisers this one begins with (runs.beginning), and its checkpoint.
BEGIN = {'workdir': '', 'checkpoint': 'best'}
WORLD = {  # groups that every kind of run has
    'wrap': (),
    'randomize': {},  # name: (fields, operation, distribution, a, b), see envs.wrap.randomize
    'disturb': dataclasses.asdict(disturb.Config()),
    'begin': BEGIN,
}
# The potential is -scale * distance to the goal (envs.wrap.shaping); with 0 it is off. Where it is
# on, evaluations report the task's own reward as 'task_reward_mean'.
SHAPING = {'scale': 0.0}
# The demonstration whose observations give the reward instead of the task (envs.wrap.demo_reward).
# Evaluations report the task's own reward as the metrics 'task_reward_...'.
IMITATE = {
    'path': '',  # of a file of episodes, or several with commas; '': the task's reward
    'episode': 0,  # its number in the files, numbered through from 0
    'length': 0,  # use only so many of its first rows; 0: all
    'stride': 5,  # one row in so many is a frame, counted from the last one back
    'columns': (),  # those of the observation that are compared; (): all
    'scale': (),  # of each of these columns; (): its standard deviation over the rows
    'temperature': 1.0,  # distance at which a frame is visited with probability 1 / e
}
# The run of a trained flow, for agents that learn from one; its checkpoint is 'best', 'latest' or a
# number.
TEACHER = {'workdir': '', 'checkpoint': 'latest'}
EXECUTE = {
    'name': 'receding_horizon',  # or 'temporal_ensemble': plan at every step, average
    'delay': 0,  # env steps that planning takes; meanwhile the last chunk goes on
    'ensemble_decay': 0.01,  # weight exp(-decay i) of an env step's i-th prediction
    'warm_start_steps': 0,  # only so many last denoising steps, from the last chunk; 0: all
    'inpaint_actions': 0,  # so many next actions are fixed by the last chunk; 0: none
}
# The expert that is asked: the task's own one, or the run in `workdir`. It sees the true state,
# without what `disturb` hides, delays or adds.
EXPERT = {'workdir': '', 'checkpoint': 'best'}
# Demonstrations with rewards, for loop.demo_share.
REWARDED = {
    'path': '',  # of files of episodes, with commas between them
    'other_rewards': False,  # also learn from the rewards of another task, or another reward of it
}
_IMITATION = {**WORLD, 'augment': {'obs_noise': 0.0}, 'execute': EXECUTE, 'data': {'tag': ''}}
NEUTRAL = {  # kind of run: what older recipes may lack, with values that turn it off
    'offline': {**_IMITATION, 'teacher': TEACHER},
    'dagger': {**_IMITATION, 'expert': EXPERT},
    'offline_rl': {**WORLD, 'data': {'other_rewards': False}},
    'on_policy': {**WORLD, 'shaping': SHAPING},
    'off_policy': {**WORLD, 'shaping': SHAPING, 'imitate': IMITATE, 'data': REWARDED},
}


def offline(agent: str, env: str, data_format: str, data_path: str) -> config_dict.ConfigDict:
    """The config of a run that learns chunks of actions from demonstrations."""
    return _config(
        agent=agent_group(agent),
        env=env_group(env),
        data={
            'format': data_format,  # a name in registry.TABLES['formats']
            'path': data_path,  # or several, with commas; all but the first are in our format
            'tag': '',  # learn only actions with this tag, as 'intervention'; '': all
            'num_episodes': 0,  # a random subset of the episodes of all files; 0: all
            'subset_seed': 42,
        },
        normalize={'obs': 'min_max', 'action': 'none'},  # 'min_max' or 'none'
        augment={'obs_noise': 0.0},  # standard deviation, in normalised units
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
    config.expert = config_dict.ConfigDict(EXPERT)
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


def _shared(env: str, modes: tuple[str, ...]) -> dict[str, Any]:
    return {
        **WORLD,
        'eval': {
            'every': 10 if env else 0,  # in rounds; 0: never, as without a simulator
            'num_episodes': 50,
            'first_seed': 100_000,  # of the first episode; training uses none of these seeds
            # The policy acts by the mode of its distribution ('deterministic') or by samples of
            # it ('stochastic'). The first of these gives the score and the video.
            'modes': modes,
            'score': 'success_max',  # the metric that the best checkpoint is chosen by
            'metrics': ('return', 'length', 'success_max'),
        },
        'checkpoint': {'every': 10, 'keep_last': 2, 'keep_best': 1},  # evaluations save as well
    }


def _config(**groups: Any) -> config_dict.ConfigDict:
    return config_dict.ConfigDict(copy.deepcopy(groups))
