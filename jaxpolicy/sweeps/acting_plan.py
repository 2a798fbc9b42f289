"""Plans and checks in which ways the runs of a sweep are evaluated without being trained again."""

import contextlib
import copy
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import config_dict

from jaxpolicy.io import fingerprint, settings, workdir
from jaxpolicy.runs import saved
from jaxpolicy.sweeps import building, grid, plan

_FLAG = '--acting'
_OF_TRAINING = ('eval.every', 'eval.score')  # of `eval`, what all runs of a setting share


def add(
    planned: Sequence[plan.Planned],
    variants: Sequence[plan.Variant],
    text: str,
    builder: building.Builder,
    num_seeds: int,
) -> list[plan.Planned]:
    """The runs of a plan, each followed by its evaluations with other ways of acting.

    A combination in which a run acts as it was trained is that run itself, and no evaluation.

    Args:
      variants: the settings that `planned` trains.
      text: the values of each key, as `grid.combine` takes them; '': there are no evaluations.
      builder: has built all variants.

    Raises:
      ValueError: a key may not change after training, no recipe has it or the grid has it as well;
        values are of another type or do not go together; or runs have no evaluation of their own.
    """
    if not text:
        return list(planned)
    combinations = [setting.changes for setting in grid.combine(text, _FLAG)]
    _check_keys(combinations, variants)
    by_config: dict[str, plan.Variant] = {}
    for variant in variants:
        by_config.setdefault(plan.mark(workdir.to_json(variant.config)), variant)
    found: list[plan.Planned] = []
    ways: dict[str, list[plan.Variant]] = {}
    for run in planned:
        if run.config not in ways:
            variant = by_config[run.config]
            ways[run.config] = _ways(variant, combinations)
            for way in ways[run.config]:
                builder.check_acting(variant, way, num_seeds)
        found += [run, *(_planned(run, way) for way in ways[run.config])]
    return found


def _check_keys(
    combinations: Sequence[Sequence[grid.Change]], variants: Sequence[plan.Variant]
) -> None:
    """Raises a ValueError where a key cannot tell ways of acting apart."""
    for variant in variants:
        if not variant.config.eval.every:
            raise ValueError(
                f'{variant.name}: config.eval.every: expected at least 1 with {_FLAG}, as the run '
                'is itself compared with its evaluations, found 0'
            )
    recipes = {variant.recipe: variant.config for variant in variants}.values()
    known = {key for config in recipes for way in combinations for key, _ in _own(config, way)}
    for key, text in combinations[0]:
        if key in _OF_TRAINING:
            raise ValueError(f'{_FLAG}: expected keys that change how a run acts, found {key!r}')
        if key not in known:
            config = copy.deepcopy(variants[0].config)
            with _as_flag():
                settings.override(config, [(key, text)])
        if any(key in variant.changes for variant in variants):
            raise ValueError(
                f'{_FLAG}: {key}: expected a key that the settings which are trained do not '
                'change, found it in both'
            )


@contextlib.contextmanager
def _as_flag() -> Iterator[None]:
    """Within it, what is said of `--config.<key>` is said of this flag."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r'^--config\.', f'{_FLAG}: ', str(error))) from error


def _ways(
    variant: plan.Variant, combinations: Sequence[Sequence[grid.Change]]
) -> list[plan.Variant]:
    """The variant with each combination, with what differs from its training; equal ones once."""
    trained = workdir.to_json(variant.config)
    seen, found = {json.dumps(trained, sort_keys=True)}, []
    for combination in combinations:
        config = copy.deepcopy(variant.config)
        pairs = _own(config, combination)
        with building.named(variant.name), _as_flag():
            saved.change(config, [f'{key}={text}' for key, text in pairs], saved.EVALUATION, _FLAG)
        values = workdir.to_json(config)
        if (mark := json.dumps(values, sort_keys=True)) in seen:
            continue
        seen.add(mark)
        differs = [pair for pair in pairs if _differs(trained, values, pair[0])]
        changes = {key: plan.value_of(values, key) for key, _ in differs}
        words = [f'{key}={plan.text_of(value)}' for key, value in changes.items()]
        name = ' '.join([variant.name, *words])
        found.append(
            plan.Variant(name, variant.recipe, config, changes, [[*pair] for pair in differs])
        )
    return found


def _own(config: config_dict.ConfigDict, pairs: Sequence[grid.Change]) -> list[grid.Change]:
    """Those changes whose key the config has, also with the task that they choose."""
    there = copy.deepcopy(config)
    settings.override(there, [pair for pair in pairs if pair[0] == 'env.name'])
    known = settings.keys(there)
    return [(key, text) for key, text in pairs if key in known]


def _differs(there: Any, given: Any, key: str) -> bool:
    try:
        return plan.value_of(there, key) != plan.value_of(given, key)
    except KeyError:  # of another task
        return True


def _planned(run: plan.Planned, way: plan.Variant) -> plan.Planned:
    config = plan.mark(workdir.to_json(way.config))
    identity, words = fingerprint.of([run.identity, config]), way.name.removeprefix(run.name)
    return run._replace(
        name=way.name,
        setting=fingerprint.of([run.setting, config]),
        identity=identity,
        config=config,
        workdir=f'{run.workdir}/{plan.folder_of(words, identity)}',
        task=way.config.env.name,
        changes=run.changes | way.changes,
        overrides=way.overrides,
        num_rounds=1,
        trained_by=run.identity,
        num_episodes=way.config.eval.num_episodes,
        first_seed=way.config.eval.first_seed,
    )
