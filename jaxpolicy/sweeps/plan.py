"""Plans the runs of a sweep: their configs, names, seeds and identities.

The plan is kept in the folder of the sweep, so that the same sweep again finds its runs, and a
larger one plans what is new.
"""

import copy
import difflib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from jaxpolicy import ranges
from jaxpolicy.io import fingerprint, recipe_file, settings, workdir
from jaxpolicy.sweeps import definition, grid

FILE = 'plan.json'
_LONGEST = 80  # letters of a folder's name


class Planned(NamedTuple):
    """One run, as the plan has it; all of it is JSON.

    setting: identifies the config and the data.
    identity: identifies the config, the data and the seeds.
    config: identifies the config.
    overrides: [key, text] of all changes of the recipe, as the command `train` takes them.
    num_rounds: of the run.
    trained_by: identity of the run whose last checkpoint this one evaluates, with `overrides` as
      the command `evaluate` takes them; '' for a run that trains.
    num_episodes, first_seed: of that evaluation.
    The other fields are as in `result.Result`.
    """

    name: str
    setting: str
    identity: str
    config: str
    workdir: str
    task: str
    recipe: str
    changes: dict[str, Any]
    overrides: list[list[str]]
    seeds: list[int]
    score: str
    num_rounds: int
    budget: int
    trained_by: str = ''
    num_episodes: int = 0
    first_seed: int = 0


class Variant(NamedTuple):
    """One setting of one recipe; changes: the values of what the setting changes."""

    name: str
    recipe: str
    config: config_dict.ConfigDict
    changes: dict[str, Any]
    overrides: list[list[str]]


class Built(NamedTuple):
    """What is known of a variant once its run was built: see `kinds.Run`; budget: `Result`."""

    fingerprint: str
    num_rounds: int
    budget: int


def variants(sweep: definition.Sweep) -> list[Variant]:
    """The settings of all recipes, each with its config; equal ones are there once.

    A change applies to the recipes that have its key.

    Raises:
      ValueError: no recipe has a key (the nearest is named), or a value is of another type.
    """
    if not sweep.recipes:
        raise ValueError('--config: expected at least one recipe, found none')
    wanted = _settings(sweep)
    shared = grid.changes(sweep.overrides, '--config.')
    recipes = {name: recipe_file.load(name) for name in sweep.recipes}
    known = _Keys(recipes)
    known.check([change for setting in wanted for change in setting.changes] + [*shared], wanted)
    found: dict[str, Variant] = {}
    for recipe, base in recipes.items():
        for setting in wanted:
            names = [value for key, value in setting.changes + shared if key == 'env.name'][:1]
            keys = known.of(recipe, *names)
            own = [change for change in setting.changes if _has(keys, change[0])]
            pairs = [change for change in shared if _has(keys, change[0])] + own
            config = copy.deepcopy(base)
            settings.override(config, pairs)
            values = workdir.to_json(config)
            changed = {key: value_of(values, key) for key, _ in own}
            variant = Variant(setting.name, recipe, config, changed, [[*pair] for pair in pairs])
            found.setdefault(json.dumps([recipe, setting.name, values], sort_keys=True), variant)
    return _named(list(found.values()), len(recipes) > 1)


class _Keys:
    """The keys of each recipe, also where it has another task."""

    def __init__(self, recipes: dict[str, config_dict.ConfigDict]):
        self._recipes, self._found = recipes, {}

    def of(self, recipe: str, *names: str) -> set[str]:
        """The keys of a recipe; names: that of another task, if there is one."""
        if (recipe, *names) not in self._found:
            config = copy.deepcopy(self._recipes[recipe])
            if names and 'env' in config:
                settings.override(config, [('env.name', names[0])])
            self._found[recipe, *names] = set(settings.keys(config))
        return self._found[recipe, *names]

    def check(self, changes: Sequence[grid.Change], wanted: Sequence[grid.Setting]) -> None:
        """Raises a ValueError where no recipe has a key."""
        names = {value for key, value in changes if key == 'env.name'}
        sets = [self.of(recipe, *name) for recipe in self._recipes for name in [(), *zip(names)]]
        every = set().union(*sets)
        for key in dict.fromkeys(key for key, _ in changes):
            if not _has(every, key):
                leaf = key.rsplit('.', 1)[-1]
                near = [name for name in sorted(every) if name.rsplit('.', 1)[-1] == leaf]
                near += difflib.get_close_matches(key, sorted(every), n=2, cutoff=0.6)
                hint = f'; did you mean {" or ".join(dict.fromkeys(near[:2]))}?' if near else ''
                raise ValueError(f'{key}: no recipe of {", ".join(self._recipes)} has it{hint}')


def _has(keys: set[str], key: str) -> bool:
    """Whether a key, or a group of this name, is among the keys."""
    return key in keys or any(name.startswith(f'{key}.') for name in keys)


def _settings(sweep: definition.Sweep) -> list[grid.Setting]:
    if sweep.settings:
        if sweep.grid or sweep.num_random:
            raise ValueError('--list: expected no --grid and no --random beside it')
        return grid.read_lines(sweep.settings, '--list')
    if sweep.num_random:
        return grid.draw(sweep.grid, sweep.num_random, sweep.sweep_seed)
    return grid.combine(sweep.grid)


def _named(found: list[Variant], several: bool) -> list[Variant]:
    """The variants with their names: the user's, or what differs from the others."""
    count: dict[str, set[str]] = {}
    for variant in found:
        for key, value in variant.changes.items():
            count.setdefault(key, set()).add(json.dumps(value))
    same = {
        key
        for key, values in count.items()
        if len(values) == 1 and all(key in variant.changes for variant in found)
    }
    named = []
    for variant in found:
        recipe = _short(variant.recipe)
        parts = [
            f'{key}={text_of(value)}' for key, value in variant.changes.items() if key not in same
        ]
        name = variant.name or ' '.join(parts)
        if several or not name:
            name = f'{recipe} {name}'.strip()
        named.append(variant._replace(name=name))
    return named


def _short(recipe: str) -> str:
    """configs/reach/ppo.py -> reach/ppo."""
    return '/'.join(Path(recipe).with_suffix('').parts[-2:]) if '/' in recipe else recipe


def text_of(value: Any) -> str:
    return json.dumps(value).replace(' ', '') if isinstance(value, list) else str(value)


def value_of(values: Any, key: str) -> Any:
    for name in key.split('.'):
        values = values[name]
    return values


def plan(
    found: Sequence[Variant],
    sweep: definition.Sweep,
    before: Sequence[Planned],
    build: Callable[[Variant, int, int], Built],
) -> list[Planned]:
    """The runs of a sweep, in the order of its settings; of each setting, first those of before.

    Args:
      before: the runs of an earlier plan in the same folder. Seeds that they have are not planned
        again.
      build: (variant, seed, number of seeds) -> `Built`; it raises a ValueError where the run
        cannot be built.
    """
    ranges.check_seeds('--seed', sweep.seed, sweep.num_seeds)
    wanted = range(sweep.seed, sweep.seed + sweep.num_seeds)
    planned: dict[str, Planned] = {}
    for variant in found:
        built = build(variant, sweep.seed, sweep.num_seeds)
        config = mark(workdir.to_json(variant.config))
        setting = fingerprint.of([config, built.fingerprint])
        old = [run for run in before if run.setting == setting and {*run.seeds} & {*wanted}]
        for run in old:  # with the name that it has beside the other settings of now
            planned.setdefault(
                run.identity, run._replace(name=variant.name, changes=variant.changes)
            )
        new = [seed for seed in wanted if not any(seed in run.seeds for run in old)]
        for seeds in blocks(new, together=together(variant.config)):
            identity = fingerprint.of([setting, *seeds])
            planned.setdefault(identity, _planned(variant, built, setting, identity, seeds))
    return list(planned.values())


def configs_of(planned: Sequence[Planned]) -> dict[str, config_dict.ConfigDict]:
    """The configs of runs that train, by identity, from their recipes, which are read again."""
    recipes = {name: recipe_file.load(name) for name in {run.recipe for run in planned}}
    found = {}
    for run in planned:
        config = copy.deepcopy(recipes[run.recipe])
        settings.override(config, [(key, text) for key, text in run.overrides])
        found[run.identity] = config
    return found


def title(run: Planned) -> str:
    """The name of a run with its seeds."""
    return f'{run.name}, {seeds_text(run.seeds)}'


def seeds_text(seeds: Sequence[int]) -> str:
    """'seed 3', or 'seeds 0-4'."""
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'seeds {seeds[0]}-{seeds[-1]}'


def mark(config: dict[str, Any]) -> str:
    """A text that identifies a config, given as JSON."""
    return fingerprint.of([json.dumps(config, sort_keys=True)])


def together(config: config_dict.ConfigDict) -> bool:
    """Whether several seeds can be trained in one program: not with a buffer on the host."""
    return config.loop.get('buffer_on') != 'host'


def blocks(seeds: Sequence[int], together: bool) -> list[list[int]]:
    """Seeds that follow each other, which a run can train together; else each for itself."""
    found: list[list[int]] = []
    for seed in seeds:
        if together and found and seed == found[-1][-1] + 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return found


def _planned(variant, built: Built, setting: str, identity: str, seeds: list[int]) -> Planned:
    config = variant.config
    return Planned(
        name=variant.name,
        setting=setting,
        identity=identity,
        config=mark(workdir.to_json(config)),
        workdir=f'runs/{folder_of(variant.name, identity)}',
        task=config.env.name,
        recipe=variant.recipe,
        changes=variant.changes,
        overrides=variant.overrides,
        seeds=seeds,
        score=config.eval.score if config.eval.every else '',
        num_rounds=built.num_rounds,
        budget=built.budget,
    )


def folder_of(name: str, identity: str) -> str:
    """The name of the folder of a run."""
    slug = re.sub(r'[^A-Za-z0-9_.=+-]+', '_', name).strip('_.')[:_LONGEST]
    return f'{slug}-{identity[:8]}'


def write(folder: Path, planned: Sequence[Planned]) -> None:
    """Writes the plan, atomically; runs of an earlier plan in the folder stay in it."""
    folder.mkdir(parents=True, exist_ok=True)
    merged = {run.identity: run for run in [*read(folder), *planned]}
    workdir.write_json(folder / FILE, [run._asdict() for run in merged.values()])


def read(folder: Path) -> list[Planned]:
    """The plan in the folder of a sweep; [] if there is none.

    Raises:
      ValueError: the file is no plan.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return [Planned(**row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path}: expected the plan of a sweep: {error}') from error
