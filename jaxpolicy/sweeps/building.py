"""Builds every run of a plan before the first one starts, so that mistakes show at once.

Each run is made of its config, as training makes it. What is the same for several runs is made
once: environments and demonstrations; runs that differ only in numbers of their agent, of which
the agent alone is built for each; and the traces of programs of equal shapes.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from ml_collections import config_dict

from jaxpolicy import sharding, types
from jaxpolicy.io import mistakes, workdir
from jaxpolicy.runs import (
    continuing,
    dataset,
    environment,
    evaluation,
    kinds,
    learner,
    program,
    sections,
    together,
)
from jaxpolicy.sweeps import plan, shared_programs

_WORLD = ('env', 'wrap', 'randomize', 'disturb', 'shaping', 'imitate', 'data')


@contextlib.contextmanager
def named(setting: str) -> Iterator[None]:
    """Within it, messages of mistakes begin with the name of a setting."""
    try:
        yield
    except Exception as error:
        if mistakes.is_mistake(error):
            raise ValueError(f'{setting}: {mistakes.describe(error)}') from error
        error.add_note(f'in the setting {setting!r}')
        raise


class Builder:
    """Builds runs one after the other, and remembers what they share.

    programs: how many runs have had their programs traced; the others have equal shapes.
    """

    def __init__(self):
        self.programs = 0
        self._shared: dict[str, Any] = {}
        self._made: dict[str, tuple[plan.Built, types.Spec]] = {}
        self._traced: set[str] = set()

    def build(self, variant: plan.Variant, seed: int, num_seeds: int) -> plan.Built:
        """Builds the run of a setting.

        Raises:
          ValueError: the config names something that does not exist, its values are out of their
            ranges or do not go together, or the state does not fit into memory; the message
            begins with the name of the setting.
        """
        config = variant.config
        with named(variant.name):
            sections.check_groups(config)
            kinds.check_used(config)
            return self._build(config, seed, num_seeds)

    def check_acting(self, trained: plan.Variant, acting: plan.Variant, num_seeds: int) -> None:
        """Checks that what one setting trains can be evaluated with the config of another.

        Args:
          trained: was built before, with as many seeds.

        Raises:
          ValueError: see `build`.
        """
        config = acting.config
        with named(acting.name):
            kinds.check_used(config)
            _, spec = self._made[_without_numbers(trained.config, num_seeds, ('agent',))]
            agent = learner.make_agent(config, spec)
            num_seeds = num_seeds if plan.together(config) else 1
            shapes = _without_numbers(config, num_seeds, ('agent', 'loop', 'disturb'))
            if (key := f'acting {shapes}') not in self._traced:
                _trace_evaluation(config, agent, spec, num_seeds)
                self._traced.add(key)

    def _build(self, config: config_dict.ConfigDict, seed: int, num_seeds: int) -> plan.Built:
        given = self._given(config)
        if (key := _without_numbers(config, num_seeds, ('agent',))) in self._made:
            built, spec = self._made[key]
            episodes = given if config.loop.name not in learner.ONLINE else ()
            learner.make_agent(config, spec, 1, *episodes)
            return built
        run = kinds.make_run(config, *given)
        if (shapes := _without_numbers(config, num_seeds, ('agent', 'loop'))) not in self._traced:
            _trace(config, run, seed, num_seeds)
            self._traced.add(shapes)
            self.programs += 1
        length = continuing.LENGTHS.get(config.loop.name)
        steps = config.loop[length] if length and length != 'num_epochs' else 0
        built = plan.Built(run.fingerprint, run.num_rounds, int(steps))
        self._made[key] = built, run.spec
        return built

    def look(
        self, configs: Sequence[config_dict.ConfigDict], seeds: Sequence[int]
    ) -> shared_programs.Shared:
        """What runs can share that differ in numbers of their agents (`shared_programs`)."""
        run = kinds.make_run(configs[0], *self._given(configs[0]))
        if run.begin or run.loop_of is None:
            return shared_programs.Shared([], 1)
        numbers = {name: x[:2] for name, x in together.numbers(configs).items()}
        fixed = together.fixed(run, numbers, seeds[0], len(seeds))
        one = program.of_run(run, seeds[0], len(seeds), None).template
        room = sharding.memory(jax.devices()[0], 1) // 2  # the rest is for the updates
        return shared_programs.Shared(fixed, max(1, room // max(1, sharding.num_bytes(one))))

    def _given(self, config: config_dict.ConfigDict) -> tuple[Any, ...]:
        """The environment or the demonstrations, where another run had the same ones."""
        kind = config.loop.name
        if kind in learner.ONLINE:
            if config.loop.get('hindsight_share'):
                return ()  # the run also asks the environment for its goals

            def make() -> Any:
                return environment.make_env(config, training=True)
        elif kind in kinds.KINDS:

            def make() -> Any:
                return dataset.load_episodes(config, rewarded=kind == 'offline_rl')
        else:
            return ()  # `make_run` says so
        values = workdir.to_json(config)
        world = {name: values[name] for name in _WORLD if name in values}
        world['loop.wrap'] = values['loop'].get('wrap')
        key = json.dumps([kind, world], sort_keys=True)
        if key not in self._shared:
            self._shared[key] = make()
        return (self._shared[key],)


def _trace(config: config_dict.ConfigDict, run: kinds.Run, seed: int, num_seeds: int) -> None:
    """Traces the programs of a run, and compiles nothing."""
    num_seeds = num_seeds if plan.together(config) else 1
    if config.eval.every and not config.env.name:
        raise ValueError(
            'config.eval.every: expected 0 for a run without a simulator, found '
            f'{config.eval.every}'
        )
    compiled = program.of_run(run, seed, num_seeds, None)
    if 'step' in compiled.jitted:  # numbers that do not divide each other show here
        jax.eval_shape(compiled.jitted['step'], compiled.template, run.data)
    if config.eval.every:
        _trace_evaluation(config, None, run.spec, num_seeds)


def _trace_evaluation(
    config: config_dict.ConfigDict, agent: Any, spec: types.Spec, num_seeds: int
) -> None:
    evaluator = evaluation.make(config, num_seeds, agent=agent)
    sections.check_fit(config, spec, evaluator.spec)
    names = evaluator.names(evaluator.template, config.eval.num_episodes)
    sections.metric_names(config, names)


def _without_numbers(
    config: config_dict.ConfigDict, num_seeds: int, groups: tuple[str, ...]
) -> str:
    """A text of the config, in which the numbers of some groups are left out.

    Of a number that is no integer it has only whether it is zero, which may turn a part of an agent
    or a loop off. Two configs with the same text have programs of equal shapes.
    """
    values = workdir.to_json(config)
    del values['checkpoint']
    for group in groups:
        for key, value in values[group].items():
            if isinstance(value, float):
                values[group][key] = bool(value)
    return json.dumps([values, num_seeds], sort_keys=True)
