"""What a trained run left in its workdir, for those who begin with it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import agents, envs, types
from jaxpolicy.io import checkpoint, workdir
from jaxpolicy.io import flags as config_flags
from jaxpolicy.loops import policies
from jaxpolicy.runs import build, evaluation


def open_checkpoint(directory: Path, which: str):
    """The manager of a run's checkpoints and the step that `which` names.

    Raises:
      ValueError: there is no such checkpoint.
    """
    manager = checkpoint.open_manager(directory / 'checkpoints', read_only=True)
    named = {'best': checkpoint.best_step, 'latest': checkpoint.latest_step}
    if which in named:
        step = named[which](manager)
        step = checkpoint.latest_step(manager) if step is None else step
    else:
        step = int(which) if which.isdigit() else None
    if step is None or step not in manager.all_steps():
        raise ValueError(
            f"--checkpoint: expected 'best', 'latest' or one of {sorted(manager.all_steps())} "
            f'in {directory}, found {which!r}'
        )
    return manager, step


def load_config(directory: Path) -> config_dict.ConfigDict:
    """The config of a run; fields of its task that are younger than it have their defaults.

    Raises:
      ValueError: there is no such run.
    """
    config = workdir.load_config(directory)
    host = config.env.name in envs.HOST_ENVS
    name = config.env.name
    defaults = envs.HOST_ENVS[name].Config() if host else envs.resolve(name)[1]
    with config.unlocked():
        for field, value in dataclasses.asdict(defaults).items():
            if field not in config.env:
                config.env[field] = value
    return config


def change(config: config_dict.ConfigDict, changes: Sequence[str], groups: Sequence[str]) -> None:
    """Sets keys of a run's config from `group.key=value`, where they may differ from training's.

    Args:
      groups: that may differ; what an agent that is there acts by may as well.

    Raises:
      ValueError: a key that does not exist or may not differ, or a value of another type.
    """
    if wrong := [text for text in changes if '=' not in text]:
        raise ValueError(f'--override: expected key=value, found {wrong}')
    pairs = [text.split('=', 1) for text in changes]
    config_flags.override(config, [(key, value) for key, value in pairs])
    acting = agents.AGENTS[config.agent.name].ACTING if 'agent' in config else ()
    keys = [f'agent.{name}' for name in acting]
    for key, _ in pairs:
        if key.split('.')[0] not in groups and key not in keys:
            expected = f'a key of {groups}' + (f' or {keys}' if keys else '')
            raise ValueError(f'--override: expected {expected}, found {key!r}')


def load_policy(
    directory: str | Path,
    num_robots: int = 1,
    which: str = 'best',
    mode: str = 'deterministic',
    changes: dict[str, str] | None = None,
) -> types.Policy:
    """The policy of a run, compiled ahead of time and warmed up; of several seeds, the first one's.

    Args:
      which: 'best', 'latest' or a step.
      changes: keys of the config that only matter for acting, as {'agent.sampler': 'heun'}.

    Raises:
      ValueError: there is no such run, checkpoint or mode.
    """
    config = load_config(Path(directory))
    config_flags.override(config, list((changes or {}).items()))
    num_seeds = workdir.load_num_seeds(Path(directory))
    evaluator = evaluation.make(config, num_seeds)
    manager, step = open_checkpoint(Path(directory), which)
    trained = checkpoint.restore_train(manager, step, evaluator.template)
    deterministic = build.choose('mode', evaluation.MODES, mode)
    policy_of = evaluation.make_policy(config, evaluator.spec, deterministic)
    first = evaluation.first(trained, num_seeds)
    return policies.ahead_of_time(policy_of, first, evaluator.spec, num_robots)


def begin(
    config: config_dict.ConfigDict,
    init: Callable[[], types.LoopState],
    spec: types.Spec,
    num_seeds: int,
) -> types.LoopState:
    """A new state, which acts as the run config.begin does, if it names one.

    Its optimiser begins anew, with the schedule of this run.

    Raises:
      ValueError: that run has another agent, other normalisers or another number of seeds.
    """
    state, directory = init(), config.begin.workdir
    if not directory:
        return state
    theirs = workdir.load_config(Path(directory))
    found = [theirs.agent.name, theirs.normalize.to_dict(), workdir.load_num_seeds(Path(directory))]
    if found != (wanted := [config.agent.name, config.normalize.to_dict(), num_seeds]):
        raise ValueError(f'begin.workdir: expected {wanted}, found {found}')
    manager, step = open_checkpoint(Path(directory), config.begin.checkpoint)
    shapes = evaluation.template(config, spec, num_seeds)
    trained = checkpoint.restore_train(manager, step, shapes)
    return state.replace(
        train=state.train.replace(
            params=trained.params, target_params=trained.target_params, stats=trained.stats
        )
    )


def teach(
    config: config_dict.ConfigDict,
    init: Callable[[], types.LoopState],
    spec: types.Spec,
    num_seeds: int,
) -> types.LoopState:
    """A new state with the weights of config.teacher, where its agent learns from one.

    Raises:
      ValueError: a teacher is missing or not wanted, is no flow, or sees or acts through other
        normalisers or networks.
    """
    state = init()
    wanted, directory = 'teacher' in state.train.params, config.teacher.workdir
    if wanted != bool(directory):
        expected = 'the workdir of a trained flow' if wanted else 'none for this agent'
        raise ValueError(f'teacher.workdir: expected {expected}, found {directory!r}')
    if not wanted:
        return state
    theirs = workdir.load_config(Path(directory))
    teachers = workdir.load_num_seeds(Path(directory))
    if theirs.agent.get('objective') != 'flow':
        raise ValueError(
            f'teacher.workdir: expected objective flow, found {theirs.agent.to_dict()}'
        )
    if teachers not in (1, num_seeds):
        raise ValueError(f'teacher.workdir: expected 1 or {num_seeds} seeds, found {teachers}')
    manager, step = open_checkpoint(Path(directory), config.teacher.checkpoint)
    trained = checkpoint.restore_train(manager, step, evaluation.template(theirs, spec, teachers))
    ours = evaluation.first(state.train, num_seeds).stats
    stats = evaluation.first(trained, teachers).stats
    if not jax.tree.all(jax.tree.map(np.array_equal, ours, stats)):
        raise ValueError('teacher.workdir: expected the normalisers of this run (the same data)')
    function = agents.AGENTS[config.agent.name].teach
    if num_seeds > 1:
        function = jax.vmap(function, in_axes=(0, 0 if teachers > 1 else None))
    return state.replace(train=function(state.train, trained.target_params['denoiser']))
