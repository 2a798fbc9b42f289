"""Runs that learn chunks of actions from demonstrations."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import ranges, registry, train_state, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.loops import offline
from jaxpolicy.runs import beginning, dataset, kinds, learner, saved, sections


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of the config's group `loop`."""

    batch_size: ranges.Count = 256
    num_epochs: ranges.Count = 100  # passes over the data
    epochs_per_round: ranges.Count = 1  # of one compiled call, one row of metrics


def make(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes | None = None
) -> kinds.Run:
    """Makes the run; `episodes`, where given, replace the files that the config names."""
    settings, acting = sections.section(Settings, config.loop, 'loop'), config.agent
    episodes = dataset.load_episodes(config) if episodes is None else episodes
    spec = dataset.spec_of(episodes)
    horizons = (acting.obs_horizon, acting.pred_horizon, acting.action_horizon)
    data = windows.make(episodes, *horizons, config.data.tag)
    num_rounds = -(-settings.num_epochs // settings.epochs_per_round)
    updates = offline.num_updates(windows.num_windows(data), settings.batch_size)
    decay_updates = num_rounds * settings.epochs_per_round * updates

    def agent_of(numbers):
        return learner.make_agent(config, spec, decay_updates, episodes, numbers)

    def loop(agent):
        return offline.make(agent, settings.batch_size, settings.epochs_per_round)

    agent = agent_of(learner.NO_NUMBERS)
    return kinds.Run(
        loop=loop(agent),
        data=data,
        num_rounds=num_rounds,
        spec=spec,
        fingerprint=dataset.fingerprint(episodes),
        begin=_begin(config, agent),
        loop_of=lambda numbers: loop(agent_of(numbers)),
    )


def _begin(config: config_dict.ConfigDict, agent: Any) -> Callable[[int], beginning.Begin] | None:
    """`Run.begin`: the weights of config.begin, then those of the teacher; None without both."""
    wanted, directory = 'teacher' in learner.template(agent, 1).params, config.teacher.workdir
    if wanted != bool(directory):
        expected = 'the workdir of a trained flow' if wanted else 'none for this agent'
        raise ValueError(f'config.teacher.workdir: expected {expected}, found {directory!r}')
    opener = beginning.opener(config, agent)
    if not wanted:
        return opener

    def begin(num_seeds):
        first = opener(num_seeds) if opener else lambda state: state
        learn = teach(config, num_seeds)
        return lambda state: learn(first(state))

    return begin


def teach(config: config_dict.ConfigDict, num_seeds: int) -> beginning.Begin:
    """Opens the run config.teacher; the result gives a new state the weights of that run.

    Raises:
      ValueError: the teacher is missing, is no flow, or has another number of seeds; from the
        result: it has other normalisers or networks than this run.
    """
    teacher = saved.open_run(
        config.teacher.workdir, config.teacher.checkpoint, key='config.teacher'
    )
    if teacher.config.agent.get('objective') != 'flow':
        found = teacher.config.agent.to_dict()
        raise ValueError(f'config.teacher.workdir: expected objective flow, found {found}')
    if teacher.num_seeds not in (1, num_seeds):
        raise ValueError(
            f'config.teacher.workdir: expected 1 or {num_seeds} seeds, found {teacher.num_seeds}'
        )
    function = registry.resolve('agents', config.agent.name, 'config.agent.name').teach
    if num_seeds > 1:
        function = jax.vmap(function, in_axes=(0, 0 if teacher.num_seeds > 1 else None))

    def begin(state: types.LoopState) -> types.LoopState:
        ours, theirs = learner.first(state.train, num_seeds).stats, teacher.first.stats
        if not jax.tree.all(jax.tree.map(np.array_equal, ours, theirs)):
            raise ValueError(
                'config.teacher.workdir: expected the normalisers of this run (the same data)'
            )
        how = teacher.config.agent.get('act_weights', 'ema')
        weights = train_state.acting(teacher.train, 'denoiser', how)
        return state.replace(train=function(state.train, weights))

    return begin
