"""Begins a run with the weights of another one, as the config's group `begin` says.

A network is taken over if the other run has one of the same name, with the same parameters and the
same activation. So an agent can go on in another task or with other data (offline, then online; a
second task with the same observations), and PPO can begin with the actor of a cloned Gaussian
policy. Weights are taken as they act: the EMA's, in agents that act with one. Normalisers are taken
as well, because the networks only know what they see through them. Optimisers, schedules and counts
begin anew.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.runs import learner, saved

PyTree = types.PyTree
Begin = Callable[[types.LoopState], types.LoopState]


def opener(config: config_dict.ConfigDict, agent: Any) -> Callable[[int], Begin] | None:
    """What `Run.begin` is for an agent of this config; None where `begin` names no run."""
    return (
        (lambda num_seeds: open_other(config, agent, num_seeds)) if config.begin.workdir else None
    )


def open_other(config: config_dict.ConfigDict, agent: Any, num_seeds: int) -> Begin:
    """Opens the run that `begin` names; the result gives a new state what is taken from it.

    Args:
      agent: of this run, with its normalisers.
      num_seeds: of this run. Each seed begins with the other run's state of that seed, or all of
        them with its only one.

    Raises:
      ValueError: there is no such run, it has other normalisers or another number of seeds, or no
        network of it fits.
    """
    other = saved.open_run(config.begin.workdir, config.begin.checkpoint, key='config.begin')
    if other.num_seeds not in (1, num_seeds):
        raise ValueError(
            f'begin.workdir: expected a run of 1 or {num_seeds} seeds, found {other.num_seeds}'
        )
    for field in ('obs', 'action'):
        if (theirs := other.config.normalize[field]) != config.normalize[field]:
            raise ValueError(
                f'config.normalize.{field}: expected {theirs!r} as in the run of begin.workdir, '
                f'found {config.normalize[field]!r}'
            )
    ours, first = learner.template(agent, 1), other.first
    if _shapes(ours.stats) != _shapes(first.stats):
        raise ValueError('begin.workdir: expected normalisers of the same shapes as those here')
    taken = _fitting(config, other.config, ours.params, first.params)
    print(_report(other, sorted(taken), sorted(set(ours.params) - set(taken))), file=sys.stderr)
    repeat = num_seeds > 1 and other.num_seeds == 1
    params, targets = _weights(other, taken, ours)

    def begin(state: types.LoopState) -> types.LoopState:
        def place(new, old):
            new = jnp.broadcast_to(new, old.shape) if repeat else new
            return jax.device_put(jnp.copy(new), old.sharding)

        def put(new, old):
            return old | {name: jax.tree.map(place, new[name], old[name]) for name in new}

        train = state.train
        return state.replace(
            train=train.replace(
                params=put(params, train.params),
                target_params=put(targets, train.target_params),
                stats=put(other.train.stats, train.stats),
            )
        )

    return begin


def _weights(other: saved.Saved, taken: list[str], ours: PyTree) -> tuple[dict, dict]:
    """The parameters and the targets of the networks that are taken."""
    module = registry.resolve('agents', other.config.agent.name, 'config.agent.name')
    theirs, averages = other.train.params, other.train.target_params
    averaged = module.LEARNS_FROM == 'chunks' and other.config.agent.get('act_weights') != 'raw'
    acting = theirs | averages if averaged else theirs
    params = {name: acting[name] for name in taken}
    targets = {name: averages.get(name, acting[name]) for name in taken}
    return params, {name: targets[name] for name in taken if name in ours.target_params}


def _fitting(config, theirs, ours: PyTree, found: PyTree) -> list[str]:
    """The networks that both runs have.

    Raises:
      ValueError: there are none.
    """
    names = [name for name in ours if name in found and _shapes(ours[name]) == _shapes(found[name])]
    activations = [group.agent.get('activation') for group in (config, theirs)]
    if names and activations[0] == activations[1]:
        return names
    if names:
        raise ValueError(
            f'config.agent.activation: expected {activations[1]!r} as in the run of begin.workdir, '
            f'found {activations[0]!r}'
        )
    raise ValueError(
        f'begin.workdir: expected a run with a network like one of this {config.agent.name!r} '
        f'({_sizes(ours)}), found {theirs.agent.name!r} with {_sizes(found)}'
    )


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree_util.tree_flatten_with_path(jax.tree.map(lambda x: str(x.shape), tree))


def _sizes(networks: dict[str, PyTree]) -> str:
    """Each network's name, and the shapes of its matrices."""

    def text(net: PyTree) -> str:
        return ' '.join('x'.join(map(str, x.shape)) for x in jax.tree.leaves(net) if x.ndim > 1)

    return ', '.join(f'{name}: {text(net)}' for name, net in sorted(networks.items()))


def _report(other: saved.Saved, taken: list[str], anew: list[str]) -> str:
    stats = f', and the normalisers {", ".join(other.train.stats)}' if other.train.stats else ''
    rest = f'the networks {", ".join(anew)}, ' if anew else ''
    return (
        f'beginning with {other.directory} (checkpoint {other.step}): the networks '
        f'{", ".join(taken)}{stats} are taken; {rest}the optimisers and all counts begin anew'
    )
