"""Who demonstrates: a task's scripted expert, or the policy of a trained run."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.loops import collect
from jaxpolicy.runs import dataset, environment, learner, recipe, saved, sections

GROUPS = ('env', 'wrap', 'disturb', 'randomize', 'execute')  # may differ from a run's training


def scripted(name: str, changes: Sequence[str] = ()) -> collect.Demonstrator:
    """A demonstrator that acts as the task's own expert.

    Args:
      changes: of the task's Config, such as 'env.tolerance=0.03'.

    Raises:
      ValueError: the task has no expert, or a change does not fit.
    """
    config = world(name, changes, ('env',))
    task, chosen = environment.on_device(config)
    if not task.expert:
        raise ValueError(
            'config.env.name: expected a task with an expert of its own, such as detour or pick, '
            f'found {name!r}'
        )
    policy = importlib.import_module(task.expert).make(chosen)
    source = 'jaxpolicy scripted expert'
    return _demonstrator(config, lambda weights: policy, (), source, changes)


def world(name: str, changes: Sequence[str], groups: Sequence[str]) -> config_dict.ConfigDict:
    """The config of a task in which nobody learns: the groups that an environment is made of."""
    config = config_dict.ConfigDict(
        {'env': recipe.env_group(name), 'loop': {'name': 'nobody learns'}, **recipe.WORLD}
    )
    saved.change(config, changes, groups)
    return config


def of_run(
    directory: Path,
    which: str = 'best',
    mode: str = 'deterministic',
    changes: Sequence[str] = (),
) -> collect.Demonstrator:
    """A demonstrator that acts by a run's policy (of several seeds, the first) in the run's env.

    Args:
      which: 'best', 'latest' or the number of a checkpoint.
      mode: 'deterministic' or 'stochastic'.
      changes: of the env and of how the agent acts, as for `experiments.evaluate`.

    Raises:
      ValueError: there is no such run or checkpoint, the env runs outside JAX, or a change does
        not fit.
    """
    deterministic = learner.MODES[sections.choose('mode', learner.MODES, mode)]
    run = saved.open_run(directory, which, changes, GROUPS)
    source = f'{run.config.agent.name} of {directory}, checkpoint {run.step}, {mode}'
    return _demonstrator(run.config, run.policy_of(deterministic), run.first, source, changes)


def _demonstrator(
    config: config_dict.ConfigDict,
    policy_of: Callable[[types.PyTree], types.Policy],
    weights: types.PyTree,
    source: str,
    changes: Sequence[str],
) -> collect.Demonstrator:
    task, chosen = environment.on_device(config)
    info: dict[str, str | float] = {
        **dataset.about(config),
        'source': source,
        'units': f'see {task.module.__name__.replace(".", "/")}.py',
    }
    if task.control_hz is not None:
        info['control_hz'] = task.control_hz(chosen)
    if changes:
        info['override'] = ' '.join(changes)
    env = environment.make_env(config)
    return collect.Demonstrator(env, chosen.episode_steps, policy_of, weights, info)
