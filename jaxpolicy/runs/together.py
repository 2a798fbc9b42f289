"""Settings of a run that share a program: their configs differ in numbers of the agent alone.

A number that only takes part in the computation, such as a learning rate, can be an input of the
program, and then one program trains several settings. A number that decides what is computed, such
as one that turns a part off with 0, cannot; tracing finds out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.io import workdir
from jaxpolicy.runs import kinds, learner, program

Numbers = Mapping[str, Any]  # field of the config's group `agent`: its value in each setting, [K]


def numbers(configs: Sequence[config_dict.ConfigDict]) -> dict[str, np.ndarray]:
    """What the configs differ in, float32 [K] by field of the group `agent`.

    Raises:
      ValueError: they differ in something else.
    """
    trees = [workdir.to_json(config) for config in configs]
    fields = [name for name, x in trees[0]['agent'].items() if isinstance(x, float)]
    found = {name: [tree['agent'].get(name) for tree in trees] for name in fields}
    found = {name: values for name, values in found.items() if len(set(values)) > 1}
    for tree in trees[1:]:
        rest = tree | {'agent': tree['agent'] | {name: trees[0]['agent'][name] for name in found}}
        if differs := workdir.differences(trees[0], rest):
            key, there, given = differs[0]
            raise ValueError(
                f'config.{key}: expected the same in settings that share a program, or numbers of '
                f'the agent, found {there!r} and {given!r}'
            )
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def acting(config: config_dict.ConfigDict, spec: types.Spec, given: Numbers) -> types.AnyAgent:
    """The agent for evaluations: its states are pairs of a train state and the numbers beside it.

    Only its `init` and its `policy` take such pairs, as an evaluation learns nothing.

    Args:
      given: the numbers of all settings, [K], for their names and dtypes.
    """
    agent = learner.make_agent(config, spec)

    def init(key):
        return agent.init(key), {name: values[0] for name, values in given.items()}

    def policy(pair, deterministic=False):
        train, mine = pair
        return learner.make_agent(config, spec, numbers=mine).policy(train, deterministic)

    return agent._replace(init=init, policy=policy)


def fixed(run: kinds.Run, given: Numbers, seed: int, num_seeds: int) -> list[str]:
    """The numbers that decide what is computed; settings that differ in others share a program."""
    if _traces(run, given, seed, num_seeds):
        return []
    return [name for name in given if not _traces(run, {name: given[name]}, seed, num_seeds)]


def _traces(run: kinds.Run, given: Numbers, seed: int, num_seeds: int) -> bool:
    try:
        made = program.of_settings(run, given, seed, num_seeds)
        jax.eval_shape(made.jitted['step'], made.template, (dict(given), run.data))
    except jax.errors.JAXTypeError:
        return False
    return True


def without(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The config as JSON, less the numbers that could differ between settings of a program."""
    values = workdir.to_json(config)
    agent = {key: x for key, x in values['agent'].items() if not isinstance(x, float)}
    return values | {'agent': agent}
