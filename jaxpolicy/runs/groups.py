"""The groups of a config beside agent, env and loop: their fields, and what these may hold.

Each kind of run has those that it uses (see `recipe`), and of `data` the fields that it uses.
"""

import dataclasses
from typing import Annotated, Any, Literal

from ml_collections import config_dict

from jaxpolicy import ranges
from jaxpolicy.envs.wrap import disturb

Mode = Literal['deterministic', 'stochastic']


@dataclasses.dataclass(frozen=True)
class Shaping:
    """The potential is -scale * distance to the goal (envs.wrap.shaping).

    Where it is on, evaluations report the task's own reward as 'task_reward_mean'.
    """

    scale: ranges.NonNegative = 0.0  # 0: off


_NO_PATH = ranges.Idle('path', ('',))


@dataclasses.dataclass(frozen=True)
class Imitate:
    """The demonstration whose observations give the reward instead of the task (wrap.demo_reward).

    Evaluations report the task's own reward as the metrics 'task_reward_...'.
    """

    path: str = ''  # of a file of episodes, or several with commas; '': the task's reward
    episode: Annotated[ranges.CountOrZero, _NO_PATH] = 0  # numbered through from 0
    length: Annotated[ranges.CountOrZero, _NO_PATH] = 0  # use only its first rows; 0: all
    # One row in so many is a frame, counted from the last one back.
    stride: Annotated[ranges.Count, _NO_PATH] = 5
    # Those columns of the observation that are compared; (): all.
    columns: Annotated[tuple[int, ...], ranges.Range(0), _NO_PATH] = ()
    # Of each of these columns; (): its standard deviation over the rows.
    scale: Annotated[ranges.Positives, _NO_PATH] = ()
    # The distance at which a frame is visited with probability 1 / e.
    temperature: Annotated[ranges.Positive, _NO_PATH] = 1.0


@dataclasses.dataclass(frozen=True)
class Run:
    """Another run, or none where `workdir` is ''; checkpoint: 'best', 'latest' or a number."""

    workdir: str = ''
    checkpoint: Annotated[str, ranges.Idle('workdir', ('',))] = 'best'


@dataclasses.dataclass(frozen=True)
class Teacher(Run):
    """The run of a trained flow, for agents that learn from one."""

    checkpoint: Annotated[str, ranges.Idle('workdir', ('',))] = 'latest'


@dataclasses.dataclass(frozen=True)
class Execute:
    """How chunks of actions are executed; temporal_ensemble plans at every step and averages."""

    name: Literal['receding_horizon', 'temporal_ensemble'] = 'receding_horizon'
    delay: ranges.SizeOrZero = 0  # env steps that planning takes; meanwhile the last chunk goes on
    # The weight of an env step's i-th prediction is exp(-decay i).
    ensemble_decay: Annotated[ranges.NonNegative, ranges.Idle('name', ('receding_horizon',))] = 0.01
    warm_start_steps: ranges.SizeOrZero = 0  # only the last denoising steps, from the last chunk
    inpaint_actions: ranges.SizeOrZero = 0  # so many next actions are fixed by the last chunk


@dataclasses.dataclass(frozen=True)
class Augment:
    """Noise on what is learnt from."""

    obs_noise: ranges.NonNegative = 0.0  # standard deviation, in normalised units


@dataclasses.dataclass(frozen=True)
class Normalize:
    """What the agent sees through a normaliser; `learner` knows which go with a kind of run."""

    obs: Literal['min_max', 'running', 'none'] = 'none'
    action: Literal['min_max', 'none'] = 'none'


@dataclasses.dataclass(frozen=True)
class Data:
    """Where demonstrations come from."""

    format: str = 'episodes'  # a name in registry.TABLES['formats']
    path: str = ''  # or several, with commas; all but the first are in our format
    tag: str = ''  # learn only actions with this tag, as 'intervention'; '': all
    num_episodes: ranges.CountOrZero = 0  # a random subset of all files' episodes; 0: all
    subset_seed: Annotated[ranges.CountOrZero, ranges.Idle('num_episodes', (0,))] = 42
    other_rewards: bool = False  # also learn from rewards of another task, or other ones of it


@dataclasses.dataclass(frozen=True)
class Eval:
    """When and how the policy is evaluated while training."""

    every: ranges.CountOrZero = 10  # in rounds; 0: never, as without a simulator
    num_episodes: ranges.Size = 50
    first_seed: ranges.CountOrZero = 100_000  # of the first episode; training uses none of these
    # The policy acts by the mode of its distribution ('deterministic') or by samples of it
    # ('stochastic'). The first of these gives the score and the video.
    modes: tuple[Mode, ...] = ('deterministic', 'stochastic')
    score: str = 'success_max'  # the metric that the best checkpoint is chosen by
    metrics: tuple[str, ...] = ('return', 'length', 'success_max')


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When the run is saved; evaluations save as well."""

    every: ranges.CountOrZero = 10  # in rounds
    keep_last: ranges.Count = 2
    keep_best: ranges.CountOrZero = 1


TYPES = {
    'shaping': Shaping,
    'imitate': Imitate,
    'teacher': Teacher,
    'execute': Execute,
    'expert': Run,
    'begin': Run,
    'augment': Augment,
    'normalize': Normalize,
    'data': Data,
    'eval': Eval,
    'checkpoint': Checkpoint,
    'disturb': disturb.Config,
}


def check(config: config_dict.ConfigDict) -> None:
    """Checks all groups that this module knows.

    Raises:
      ValueError: a group has an unknown field, or a field holds what it may not.
    """
    for name in TYPES:
        if name in config:
            of(config[name], name)


def of(group: Any, name: str) -> Any:
    """The dataclass of a group; fields that the group lacks have their defaults.

    Raises:
      ValueError: the group has an unknown field, or a field holds what it may not.
    """
    kind, values = TYPES[name], dict(group)
    if unknown := set(values) - {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f'config.{name}: unknown fields {sorted(unknown)}')
    found = kind(**values)
    ranges.check(found, f'config.{name}.')
    return found
