"""Who demonstrates: an env's scripted expert, or the policy of a trained run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from jaxpolicy import envs, types
from jaxpolicy.envs.wrap import disturb
from jaxpolicy.io import checkpoint, workdir
from jaxpolicy.runs import build, evaluation
from jaxpolicy.runs import saved as trained

PyTree = Any

GROUPS = ('env', 'disturb', 'randomize', 'execute')  # may differ from a run's training


class Demonstrator(NamedTuple):
    """A policy in its environment.

      env: vectorised, with the time limit of `num_steps`
        policy_of(weights) -> Policy
      weights: of a run, () of a scripted expert
    info: where the episodes come from
    """

    env: types.Env
    num_steps: int
    policy_of: Callable[[PyTree], types.Policy]
    weights: PyTree
    info: dict[str, str | float]


def scripted(name: str, changes: Sequence[str] = ()) -> Demonstrator:
    """The env's own expert.

    Args:
      changes: of the env's Config, as 'env.tolerance=0.03'.

    Raises:
      ValueError: a task without an expert, or a change that does not fit.
    """
    expert = build.choose('env', envs.EXPERTS, name)
    module, defaults = envs.resolve(name)
    config = config_dict.ConfigDict(
        {
            'env': {'name': name, **dataclasses.asdict(defaults)},
            'disturb': dataclasses.asdict(disturb.Config()),
            'randomize': {},
        }
    )
    trained.change(config, changes, ('env',))
    policy = expert.make(build.section(module, config.env))
    return _demonstrator(config, lambda weights: policy, (), 'jaxpolicy scripted expert', changes)


def of_run(
    directory: Path,
    which: str = 'best',
    mode: str = 'deterministic',
    changes: Sequence[str] = (),
) -> Demonstrator:
    """The policy of a run, in the env that it was trained in; of several seeds, the first one's.

    Args:
      which: 'best', 'latest' or a step.
      mode: 'deterministic' or 'stochastic'.
      changes: of the env and of how the agent acts, as for `experiments.evaluate`.

    Raises:
      ValueError: no such run or checkpoint, an env outside JAX, or a change that does not fit.
    """
    config = trained.load_config(directory)
    if config.env.name in envs.HOST_ENVS:
        raise ValueError(f'--workdir: expected an env on the device, found {config.env.name!r}')
    trained.change(config, changes, GROUPS)
    num_seeds = workdir.load_num_seeds(directory)
    spec = build.make_env(config).spec
    manager, step = trained.open_checkpoint(directory, which)
    shapes = evaluation.template(config, spec, num_seeds)
    weights = evaluation.first(checkpoint.restore_train(manager, step, shapes), num_seeds)
    deterministic = build.choose('mode', evaluation.MODES, mode)
    policy_of = evaluation.make_policy(config, spec, deterministic)
    source = f'{config.agent.name} of {directory}, checkpoint {step}, {mode}'
    return _demonstrator(config, policy_of, weights, source, changes)


def _demonstrator(config, policy_of, weights, source, changes) -> Demonstrator:
    module, chosen = build.env_module(config)
    info = {
        'env': config.env.name,
        'source': source,
        'control_hz': module.control_hz(chosen),
        'units': f'see {module.__name__.replace(".", "/")}.py',
        **({'override': ' '.join(changes)} if changes else {}),
    }
    return Demonstrator(build.make_env(config), chosen.episode_steps, policy_of, weights, info)
