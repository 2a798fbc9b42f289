"""Opens saved runs; this is the only place that does.

The directory of a run describes itself: config.json says what was asked for, spec.json says what
the policy sees and does (shapes, dtypes, rates), and checkpoints/ has the weights with their
normalisers. So a policy can be opened without its simulator, its data or the code of its task.
"""

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import checkpoint, fingerprint, settings, spec_file, workdir
from jaxpolicy.loops import policies
from jaxpolicy.runs import dataset, environment, learner, sections, upgrade
from jaxpolicy.runs import groups as groups_lib

PyTree = types.PyTree
# Groups of the config in which an evaluation may differ from training.
EVALUATION = ('env', 'wrap', 'disturb', 'randomize', 'eval', 'execute')


class Saved(NamedTuple):
    """A run that was opened at one of its checkpoints."""

    directory: Path
    config: config_dict.ConfigDict  # in the present format, with the caller's changes
    spec: types.Spec
    num_seeds: int
    step: int  # the number of the checkpoint
    agent: Any  # with its normalisers around it
    train: PyTree  # TrainState; with several seeds every leaf leads with [S]

    @property
    def first(self) -> PyTree:
        """The state of the first seed."""
        return learner.first(self.train, self.num_seeds)

    def policy_of(self, deterministic: bool):
        """A function (train state of one seed) -> Policy, which acts as the config says."""
        make = learner.make_policy(self.config, self.agent)
        return lambda train: make(train, deterministic)


def open_run(
    directory: str | Path,
    which: str = 'best',
    changes: Sequence[str] = (),
    groups: Sequence[str] = (),
    *,
    key: str = '',
) -> Saved:
    """Opens a run: its config, what it sees and does, its agent and its weights.

    Args:
      which: 'best' (the latest, where none has a score), 'latest' or the number of a checkpoint.
      changes: texts `group.key=value`, where the config shall differ from training.
      groups: the groups that may differ; fields that change only how an agent acts always may.
      key: the group of the config that names the run, for messages; '': flags do.

    Raises:
      ValueError: there is no such run or checkpoint, or a change does not fit.
    """
    directory = Path(directory).expanduser()
    try:
        config = load_config(directory)
    except ValueError as error:
        raise ValueError(f'{key}.workdir: {error}' if key else str(error)) from error
    change(config, changes, groups)
    num_seeds = workdir.load_num_seeds(directory)
    spec = load_spec(directory, config)
    agent = learner.make_agent(config, spec)
    manager, step = open_checkpoint(
        directory, which, f'{key}.checkpoint' if key else '--checkpoint'
    )
    train = checkpoint.restore_train(manager, step, learner.template(agent, num_seeds))
    return Saved(directory, config, spec, num_seeds, step, agent, train)


def learnt_from(run: Saved) -> episodes_lib.Episodes:
    """The demonstrations that a run has learnt from, read from the files that its config names.

    Raises:
      ValueError: they cannot be read, or there are others now than when the run was made.
    """
    episodes = dataset.load_episodes(run.config)
    manager, _ = open_checkpoint(run.directory, str(run.step))
    began_with = checkpoint.read_meta(manager, run.step).get('data', '').split(', expert')[0]
    if began_with and not began_with.startswith('a demonstration'):  # that gives rewards alone
        sections.check_same(began_with, dataset.fingerprint(episodes))
    return episodes


def load_policy(
    directory: str | Path,
    num_robots: int = 1,
    which: str = 'best',
    mode: str = 'deterministic',
    changes: dict[str, str] | None = None,
) -> types.Policy:
    """Loads the policy of a run (of several seeds, the first one's), compiled and warmed up.

    Args:
      which: 'best', 'latest' or the number of a checkpoint.
      changes: keys of the config that only matter for acting, such as {'agent.sampler': 'heun'}.

    Raises:
      ValueError: there is no such run, checkpoint or mode.
    """
    deterministic = learner.MODES[sections.choose('mode', learner.MODES, mode)]
    texts = [f'{key}={value}' for key, value in (changes or {}).items()]
    run = open_run(directory, which, texts, ('execute',))
    policy_of = run.policy_of(deterministic)
    return policies.ahead_of_time(policy_of, run.first, run.spec, num_robots)


def load_config(directory: str | Path) -> config_dict.ConfigDict:
    """The locked config of a run, in the present format.

    Raises:
      ValueError: there is no such run.
    """
    record = upgrade.upgrade(workdir.load_record(Path(directory).expanduser()))
    config = workdir.from_json(record['config']).lock()
    sections.check_groups(config, f'{directory}/{workdir.CONFIG_FILE}')
    return config


def change(
    config: config_dict.ConfigDict,
    changes: Sequence[str],
    groups: Sequence[str],
    flag: str = '--override',
) -> None:
    """Sets keys of a run's config from `group.key=value`, where they may differ from training's.

    Args:
      groups: those that may differ; fields that change only how an agent acts always may.
      flag: where the changes were given, for messages.

    Raises:
      ValueError: a key that does not exist or may not differ, or a value of another type.
    """
    if wrong := [text for text in changes if '=' not in text]:
        raise ValueError(f'{flag}: expected key=value, found {wrong}')
    pairs = [text.split('=', 1) for text in changes]
    settings.override(config, [(key, value) for key, value in pairs])
    groups_lib.check(config)
    keys = []
    if 'agent' in config:
        module = registry.resolve('agents', config.agent.name, 'config.agent.name')
        keys = [f'agent.{name}' for name in module.ACTING]
    for key, _ in pairs:
        if key.split('.')[0] not in groups and key not in keys:
            expected = f'a key of {groups}' + (f' or {keys}' if keys else '')
            raise ValueError(f'{flag}: expected {expected}, found {key!r}')


def code_of(config: config_dict.ConfigDict, more: Iterable[str | Path] = ()) -> str:
    """Text that identifies the code by which a run acts in its env; see `fingerprint.of_code`.

    It covers jaxpolicy and the modules that the config names, but not what those import of others.

    Args:
      more: files of Python, or folders of them, that measure the run.
    """
    wrappers = [entry if isinstance(entry, str) else entry[0] for entry in config.wrap]
    named = [('agents', config.agent.name), *(('wrappers', name) for name in wrappers)]
    if config.env.name:
        named.append(('envs', config.env.name.partition('/')[0]))
    fields = (('samplers', 'sampler'), ('networks', 'network'))
    named += [(kind, config.agent[field]) for kind, field in fields if field in config.agent]
    files = []
    for kind, name in named:
        found = registry.resolve(kind, name, f'config, of {kind}')
        module = inspect.getmodule(found) or inspect.getmodule(type(found))
        if file := getattr(module, '__file__', None):
            files.append(file)
    return fingerprint.of_code([*files, *more])


def open_checkpoint(directory: str | Path, which: str, key: str = '--checkpoint'):
    """The manager of a run's checkpoints and the step that `which` names; `key` is for messages.

    Raises:
      ValueError: there is no such checkpoint.
    """
    manager = checkpoint.open_manager(Path(directory) / checkpoint.FOLDER, read_only=True)
    named = {'best': checkpoint.best_step, 'latest': checkpoint.latest_step}
    if which in named:
        step = named[which](manager)
        step = checkpoint.latest_step(manager) if step is None else step
    else:
        step = int(which) if which.isdecimal() else None
    if step is None or step not in manager.all_steps():
        raise ValueError(
            f"{key}: expected 'best', 'latest' or one of {sorted(manager.all_steps())} "
            f'in {directory}, found {which!r}'
        )
    return manager, step


def load_spec(directory: str | Path, config: config_dict.ConfigDict) -> types.Spec:
    """Shapes and dtypes of what the policy of a run sees and does.

    Runs of older versions have no spec.json; for those, the environment or the data is opened.
    """
    found = spec_file.read(directory)
    if found is not None:
        return found
    if config.loop.name not in learner.ONLINE and not config.env.name:
        return dataset.spec_of(dataset.load_episodes(config))
    task, chosen = environment.task_of(config)
    if task.make is None:
        assert task.make_host is not None
        return task.make_host(chosen).spec
    return environment.make_env(config).spec
