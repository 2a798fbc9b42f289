"""Runs that learn chunks of actions from demonstrations."""

import dataclasses
import functools

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import ranges, registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.loops import offline
from jaxpolicy.runs import dataset, kinds, learner, saved, sections


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
    settings, agent = sections.section(Settings, config.loop, 'loop'), config.agent
    episodes = dataset.load_episodes(config) if episodes is None else episodes
    spec = dataset.spec_of(episodes)
    horizons = (agent.obs_horizon, agent.pred_horizon, agent.action_horizon)
    data = windows.make(episodes, *horizons, config.data.tag)
    num_rounds = -(-settings.num_epochs // settings.epochs_per_round)
    updates = offline.num_updates(windows.num_windows(data), settings.batch_size)
    decay_updates = num_rounds * settings.epochs_per_round * updates
    loop = offline.make(
        learner.make_agent(config, spec, decay_updates, episodes),
        settings.batch_size,
        settings.epochs_per_round,
    )
    return kinds.Run(
        loop=loop,
        data=data,
        num_rounds=num_rounds,
        spec=spec,
        fingerprint=dataset.fingerprint(episodes),
        begin=functools.partial(teach, config),
    )


def teach(
    config: config_dict.ConfigDict, state: types.LoopState, num_seeds: int
) -> types.LoopState:
    """Gives a new state the weights of the run config.teacher, if its agent learns from a teacher.

    Raises:
      ValueError: the teacher is missing or not wanted, is no flow, or has other normalisers or
        networks than this run.
    """
    wanted, directory = 'teacher' in state.train.params, config.teacher.workdir
    if wanted != bool(directory):
        expected = 'the workdir of a trained flow' if wanted else 'none for this agent'
        raise ValueError(f'teacher.workdir: expected {expected}, found {directory!r}')
    if not wanted:
        return state
    teacher = saved.open_run(directory, config.teacher.checkpoint)
    if teacher.config.agent.get('objective') != 'flow':
        found = teacher.config.agent.to_dict()
        raise ValueError(f'teacher.workdir: expected objective flow, found {found}')
    if teacher.num_seeds not in (1, num_seeds):
        raise ValueError(
            f'teacher.workdir: expected 1 or {num_seeds} seeds, found {teacher.num_seeds}'
        )
    ours, theirs = learner.first(state.train, num_seeds).stats, teacher.first.stats
    if not jax.tree.all(jax.tree.map(np.array_equal, ours, theirs)):
        raise ValueError('teacher.workdir: expected the normalisers of this run (the same data)')
    function = registry.resolve('agents', config.agent.name, 'config.agent.name').teach
    if num_seeds > 1:
        function = jax.vmap(function, in_axes=(0, 0 if teacher.num_seeds > 1 else None))
    return state.replace(train=function(state.train, teacher.train.target_params['denoiser']))
