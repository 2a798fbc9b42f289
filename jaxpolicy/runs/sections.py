"""Turns groups of a config into the frozen dataclasses that the library takes, and checks them."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import config_dict
from ml_collections.config_dict import ConfigDict

from jaxpolicy import ranges, types
from jaxpolicy.io import summary

NAMED = ('agent', 'env', 'loop')  # groups with a name
GROUPS = (*NAMED, 'eval', 'checkpoint', 'randomize', 'disturb', 'normalize')  # of every run


def choose(key: str, known: Iterable[str], name: str) -> str:
    """Returns `name` if it is one of the known ones.

    Args:
      key: of the config, where the name was given, such as 'loop.name'.

    Raises:
      ValueError: it is not; the message names the key and all that is known.
    """
    if name not in (known := list(known)):
        raise ValueError(f'config.{key}: expected one of {sorted(known)}, found {name!r}')
    return name


def metric_names(config: config_dict.ConfigDict, known: Iterable[str]) -> list[str]:
    """The metrics that the config names, its score first, each once.

    Args:
      known: the metrics that an evaluation has.

    Raises:
      ValueError: the evaluation lacks one of them.
    """
    names = {config.eval.score: 'eval.score'}
    for name in config.eval.metrics:
        names.setdefault(name, 'eval.metrics')
    known = [name for name in known if name != summary.BROKEN]
    return [choose(key, known, name) for name, key in names.items()]


def round_of(settings: Any, at_random: int = 0) -> int:
    """The env steps of one round, which metrics count in int32.

    Args:
      settings: of a loop, with num_envs, rollout_length and iterations_per_round.
      at_random: steps at the beginning of the run, which its first round counts as well.

    Raises:
      ValueError: they are too many.
    """
    steps = settings.num_envs * settings.rollout_length * settings.iterations_per_round
    if steps + at_random > ranges.MAX_INT:
        raise ValueError(
            f'config.loop.iterations_per_round: expected at most {ranges.MAX_INT} env steps in a '
            f'round (with num_envs, rollout_length, learning_starts), found {steps + at_random}'
        )
    return steps


def section(kind: type, group: config_dict.ConfigDict, key: str) -> Any:
    """Makes an instance of the dataclass `kind` from a group of the config.

    Args:
      key: the group's name in the config, such as 'agent'.

    Raises:
      ValueError: the group has other fields, as when only its name was changed; or a number is out
        of the range that the dataclass declares for it.
    """
    values = {name: group[name] for name in group if name != 'name'}
    known = {field.name for field in dataclasses.fields(kind)}
    if set(values) != known:
        missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
        raise ValueError(
            f'config.{key}.name: expected the fields of {group.get("name", key)!r}, missing '
            f'{missing}, unknown {unknown}; choose a recipe for it, its name alone is not enough'
        )
    made = kind(**values)
    ranges.check(made, f'config.{key}.')
    return made


def check_groups(config: config_dict.ConfigDict, where: str = '--config') -> None:
    """Raises a ValueError where a config lacks groups that every run has; `where` it is from."""
    if missing := [name for name in GROUPS if not isinstance(config.get(name), ConfigDict)]:
        raise ValueError(
            f'{where}: expected a config as jaxpolicy.runs.recipe makes it, with the groups '
            f'{", ".join(GROUPS)}; found none of the name {", ".join(missing)}'
        )
    for name in NAMED:
        group: Any = config[name]
        if not isinstance(group.get('name'), str):
            raise ValueError(f'{where}: {name}.name: expected a name, found none')


def check_fit(config: config_dict.ConfigDict, data: types.Spec, env: types.Spec) -> None:
    """Raises a ValueError where demonstrations and environment differ in shapes or actions."""
    if types.is_discrete(env) != (discrete := types.is_discrete(data)):
        kinds = ('continuous actions', 'choices')
        raise ValueError(
            f'env.name: expected {kinds[discrete]}, as in the experience to learn from, found '
            f'{kinds[not discrete]} in {config.env.name!r}'
        )
    found, wanted = (jax.tree.map(lambda s: s.shape, spec) for spec in (data, env))
    if found != wanted:
        raise ValueError(
            f'env {config.env.name!r} has {wanted}, the experience to learn from has {found}'
        )


def check_same(began_with: str, found: str) -> None:
    """Raises a ValueError where a run would continue with other data than it began with.

    Args:
      began_with: the fingerprint that was saved with the run; of older versions its first parts
        alone, and the others are then not compared.
      found: the fingerprint of the data that are there now.
    """
    if found == began_with or (began_with and found.startswith(f'{began_with}, ')):
        return
    pairs = itertools.zip_longest(found.split(', '), began_with.split(', '), fillvalue='')
    differs = next(ours or theirs for ours, theirs in pairs if ours != theirs)
    key, what = 'data.path', 'data'
    if differs.startswith('expert'):
        key, what = 'expert.workdir', 'expert'
    elif found.startswith('a demonstration'):
        key, what = 'imitate.path', 'demonstration'
    raise ValueError(
        f'{key}: expected the {what} that this run began with ({began_with}), found {found}'
    )
