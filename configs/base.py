"""The groups of a recipe, filled from the library's defaults; recipes change what differs.

agent      name, and the fields of that agent's Config
env        name, and the fields of that environment's Config
randomize  what the environment draws anew for every episode
perturb    delays, noise, pushes and hidden columns
data       where demonstrations come from (offline only)
normalize  what the agent sees through a normaliser
augment    noise on what is learnt from (offline only)
teacher    the run that this one learns from (offline only)
execute    how chunks of actions are executed (offline only)
loop       how experience and updates alternate
eval       when and how the policy is evaluated while training
checkpoint when the run is saved
"""

import dataclasses

from ml_collections import config_dict

from jaxpolicy import agents, envs
from jaxpolicy.envs import perturb


def _named(name: str, defaults) -> dict:
    return {'name': name, **dataclasses.asdict(defaults)}


def _shared(modes: tuple[str, ...]) -> dict:
    return {
        'randomize': {},  # name: (fields, operation, distribution, a, b), see envs.randomize
        'perturb': dataclasses.asdict(perturb.Config()),
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
                'path': data_path,
                'num_episodes': 0,  # a random subset; 0: all
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
                'epochs_per_step': 1,  # in one compiled call, one row of metrics; rounded up
            },
            **_shared(('deterministic',)),
        }
    )


def on_policy(agent: str, env: str) -> config_dict.ConfigDict:
    """Learning from the current policy's own experience.

    Args:
      env: a name in envs.ENVS, or 'playground/<task>' (needs the extra `playground`).
    """
    return config_dict.ConfigDict(
        {
            'agent': _named(agent, agents.AGENTS[agent].Config()),
            'env': _named(env, envs.resolve(env)[1]),
            'normalize': {'obs': 'running', 'action': 'none'},  # obs: 'running' or 'none'
            'loop': {
                'name': 'on_policy',
                'num_envs': 512,
                'rollout_length': 16,
                'num_env_steps': 2_000_000,  # rounded up to whole calls of step
                'pool_size': 0,  # fresh starts for each rollout; 0: chosen by loops.on_policy
                'updates_per_step': 10,  # rollouts in one compiled call, one row of metrics
            },
            **_shared(('deterministic', 'stochastic')),
        }
    )
