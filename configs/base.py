"""The groups of a recipe, filled from the library's defaults; recipes change what differs.

agent      name, and the fields of that agent's Config
env        name, and the fields of that environment's Config
randomize  what the environment draws anew for every episode
shaping    a reward for coming closer to the goal, which leaves optimal policies as they are
imitate    the demonstration whose observations are the reward (off-policy only)
disturb    delays, noise, pushes and hidden columns
data       where demonstrations come from (offline only)
normalize  what the agent sees through a normaliser
augment    noise on what is learnt from (offline only)
teacher    the run that this one learns from (offline only)
execute    how chunks of actions are executed (offline only)
expert     who is asked (dagger only)
begin      the run whose weights this one begins with (dagger only)
loop       how experience and updates alternate
eval       when and how the policy is evaluated while training
checkpoint when the run is saved
"""

import dataclasses

from ml_collections import config_dict

from jaxpolicy import agents, envs
from jaxpolicy.envs.wrap import disturb
from jaxpolicy.loops import off_policy as replay
from jaxpolicy.loops.dagger import loop


def _named(name: str, defaults) -> dict:
    return {'name': name, **dataclasses.asdict(defaults)}


# The potential is -scale * distance to the goal, see envs.transforms.shape_reward; 0: off. With it,
# evaluations have the task's own reward as 'task_reward_mean'.
SHAPING = {'scale': 0.0}


def _shared(modes: tuple[str, ...]) -> dict:
    return {
        'randomize': {},  # name: (fields, operation, distribution, a, b), see envs.randomize
        'disturb': dataclasses.asdict(disturb.Config()),
        'eval': {
            'every': 10,  # calls of the loop's step; 0: never
            'num_episodes': 50,
            'first_seed': 100_000,  # of the episodes; training never uses it
            # The mode of the policy's distribution ('deterministic') or samples of it; the first
            # one gives the score and the video.
            'modes': modes,
            'score': 'success_max',  # what the best checkpoint is best at
            'metrics': ('return', 'length', 'success_max'),
        },
        'checkpoint': {'every': 10, 'keep_last': 2, 'keep_best': 1},  # evaluations save as well
    }


def offline(agent: str, env: str, data_format: str, data_path: str) -> config_dict.ConfigDict:
    """Learning from demonstrations."""
    host = env in envs.HOST_ENVS
    defaults = envs.HOST_ENVS[env].Config() if host else envs.resolve(env)[1]
    return config_dict.ConfigDict(
        {
            'agent': _named(agent, agents.AGENTS[agent].Config()),
            'env': _named(env, defaults),
            'data': {
                'format': data_format,  # a name in jaxpolicy.data.formats.FORMATS
                'path': data_path,  # or several, with commas; those after the first: our format
                'tag': '',  # learn only actions that carry it, as 'intervention'; '': all
                'num_episodes': 0,  # a random subset of the first file; 0: all
                'subset_seed': 42,
            },
            'normalize': {'obs': 'min_max', 'action': 'none'},  # 'min_max' or 'none'
            'augment': {'obs_noise': 0.0},  # standard deviation, in normalised units
            # A trained flow, for agents that learn from one; 'best', 'latest' or a step.
            'teacher': {'workdir': '', 'checkpoint': 'latest'},
            'execute': {
                'name': 'receding_horizon',  # or 'temporal_ensemble': plan at every step, average
                'delay': 0,  # steps that a plan takes, in which the last chunk goes on
                'ensemble_decay': 0.01,  # weight exp(-decay i) of a step's i-th prediction
            },
            'loop': {
                'name': 'offline',
                'batch_size': 256,
                'num_epochs': 100,
                'epochs_per_round': 1,  # in one compiled call, one row of metrics; rounded up
            },
            **_shared(('deterministic',)),
        }
    )


def dagger(agent: str, env: str, data_format: str, data_path: str) -> config_dict.ConfigDict:
    """Learning from demonstrations, then from an expert's answers to what the learner meets."""
    config = offline(agent, env, data_format, data_path)
    del config.teacher
    config.loop = config_dict.ConfigDict(
        {
            'name': 'dagger',
            **dataclasses.asdict(loop.Config()),
            'gate': 'beta',  # who acts: a name in loops.gates.GATES
            'beta': 0.5,  # of the gate beta, and how it falls from round to round:
            'beta_schedule': 'exponential',  # or 'constant' or 'linear'
            'num_members': 1,  # of an ensemble, for the gate thrifty
        }
    )
    # Who is asked: the env's own expert, or else the run in `workdir`. It sees what is true,
    # below what `disturb` hides, delays or disturbs.
    config.expert = config_dict.ConfigDict({'workdir': '', 'checkpoint': 'best'})
    # A run of the same agent whose weights this one begins with; 'best', 'latest' or a step.
    config.begin = config_dict.ConfigDict({'workdir': '', 'checkpoint': 'best'})
    config.eval.every = 1  # rounds
    config.checkpoint.every = 1
    return config


def on_policy(agent: str, env: str) -> config_dict.ConfigDict:
    """Learning from the current policy's own experience.

    Args:
      env: a name in envs.ENVS, or 'playground/<task>' (needs the extra `playground`).
    """
    return config_dict.ConfigDict(
        {
            'agent': _named(agent, agents.AGENTS[agent].Config()),
            'env': _named(env, envs.resolve(env)[1]),
            'shaping': dict(SHAPING),
            'normalize': {'obs': 'running', 'action': 'none'},  # obs: 'running' or 'none'
            'loop': {
                'name': 'on_policy',
                'num_envs': 512,
                'rollout_length': 16,
                'num_env_steps': 2_000_000,  # rounded up to whole calls of step
                'pool_size': 0,  # fresh starts for each rollout; 0: chosen by loops.on_policy
                'iterations_per_round': 10,  # rollouts in one compiled call, one row of metrics
            },
            **_shared(('deterministic', 'stochastic')),
        }
    )


def off_policy(agent: str, env: str) -> config_dict.ConfigDict:
    """Learning from replayed experience, and from demonstrations beside it if asked to.

    Args:
      env: a name in envs.ENVS, or 'playground/<task>' (needs the extra `playground`).
    """
    return config_dict.ConfigDict(
        {
            'agent': _named(agent, agents.AGENTS[agent].Config()),
            'env': _named(env, envs.resolve(env)[1]),
            'shaping': dict(SHAPING),
            'normalize': {'obs': 'none', 'action': 'none'},  # obs: 'running' or 'none'
            'data': {'path': ''},  # demonstrations with rewards, for loop.demo_share
            # A demonstration's observations that give the reward instead of the task, see
            # envs.coverage; metrics 'task_reward_...' of evaluations are the task's own.
            'imitate': {
                'path': '',  # of a file of episodes; '': the task's reward
                'episode': 0,  # of the file
                'length': 0,  # rows of it, the first ones; 0: all
                'stride': 5,  # every so many rows is a frame, counted from the last one
                'columns': (),  # of the observation, that are compared; (): all
                'scale': (),  # of these columns; (): their standard deviation over those rows
                'temperature': 1.0,  # distance at which a frame is visited with probability 1 / e
            },
            'loop': {
                'name': 'off_policy',
                **dataclasses.asdict(replay.Config()),
                'num_env_steps': 100_000,  # with the random ones; rounded up to whole calls of step
            },
            **_shared(('deterministic', 'stochastic')),
        }
    )


def offline_rl(agent: str, env: str, data_path: str) -> config_dict.ConfigDict:
    """Learning values from demonstrations with rewards, as `experiments.collect` writes them."""
    config = off_policy(agent, env)
    del config.imitate, config.shaping
    config.normalize.obs = 'min_max'
    config.data = config_dict.ConfigDict(
        {'format': 'episodes', 'path': data_path, 'num_episodes': 0, 'subset_seed': 42}
    )
    config.loop = config_dict.ConfigDict(
        {
            'name': 'offline_rl',
            'batch_size': 256,
            'num_updates': 50_000,  # rounded up to whole calls of step
            'updates_per_round': 2_000,  # in one compiled call, one row of metrics
            'n_step': 1,  # n of n-step returns
        }
    )
    return config
