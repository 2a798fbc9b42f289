"""Runs that learn from demonstrations, then from an expert's answers to what the learner meets."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import ranges, types
from jaxpolicy.agents.parts import risk as risk_lib
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.envs.wrap import truth
from jaxpolicy.io import fingerprint
from jaxpolicy.loops.dagger import gates, turns
from jaxpolicy.loops.dagger import rounds as dagger
from jaxpolicy.ops import normalize
from jaxpolicy.runs import beginning, dataset, environment, kinds, learner, saved, sections

PyTree = Any


Schedule = Literal['exponential', 'constant', 'linear']
_NOT_BETA = ranges.Idle('gate', ('expert', 'surprise', 'thrifty'))


@dataclasses.dataclass(frozen=True)
class Settings(dagger.Config):
    """The fields of the config's group `loop`."""

    gate: Literal['beta', 'expert', 'surprise', 'thrifty'] = 'beta'  # who acts: loops.dagger.gates
    beta: Annotated[ranges.Share, _NOT_BETA] = 0.5  # the chance that the expert acts
    beta_schedule: Annotated[Schedule, _NOT_BETA] = 'exponential'  # how beta falls by rounds
    num_members: ranges.Few = 1  # of the learner's ensemble, which the gate thrifty needs
    wrap: tuple[Any, ...] = ()  # as config.wrap, around it, in training alone


def make(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes | None = None
) -> kinds.Run:
    """Makes the run; `episodes`, where given, replace the files that the config names."""
    episodes = dataset.load_episodes(config) if episodes is None else episodes
    parts, data = make_parts(config, episodes)
    return kinds.Run(
        loop=dagger.make(parts),
        data=data,
        num_rounds=parts.config.num_rounds + 1,  # the last one learns, and asks no more
        spec=parts.env.spec,
        fingerprint=dataset.fingerprint(episodes) + mark_of_expert(data.expert),
        begin=beginning.opener(config, parts.agent),
        keep=functools.partial(keep, dataset.about(config)),
    )


def make_parts(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes
) -> tuple[dagger.Parts, dagger.Data]:
    """The parts of the loop, and the demonstrations and expert's weights that it learns from."""
    settings, horizons = check(config)
    env = environment.make_env(config, truth.remember_truth, training=True)
    spec = dataset.spec_of(episodes)
    sections.check_fit(config, spec, env.spec)
    lengths = (horizons.obs, horizons.pred, horizons.action)
    windowed = windows.make(episodes, *lengths, config.data.tag)
    first, later = settings.first_updates, settings.updates_per_round
    total = max(first, later) if settings.restart else first + settings.num_rounds * later
    agent = learner.make_agent(config, spec, total, episodes)
    make_expert, weights = expert(config, env.spec)
    gate, risk = make_gate(config, agent, windowed, spec)
    how = learner.acts_deterministically(config)
    parts = dagger.Parts(agent, env, make_expert, gate, risk, settings, horizons, how)
    return parts, dagger.Data(windowed, weights)


def check(config: config_dict.ConfigDict) -> tuple[Settings, turns.Horizons]:
    """The group `loop` as `Settings`, and the agent's horizons, after both were checked.

    Raises:
      ValueError: a number is out of its range, or the task runs outside JAX.
    """
    settings, agent = sections.section(Settings, config.loop, 'loop'), config.agent
    if settings.label_share >= 1.0:
        raise ValueError(
            f'config.loop.label_share: expected 0 to below 1, found {settings.label_share}'
        )
    environment.on_device(config)
    for name in ('warm_start_steps', 'inpaint_actions'):
        if config.execute[name]:
            raise ValueError(
                f'config.execute.{name}: expected 0 for the loop dagger, whose policy remembers no '
                f'chunk, found {config.execute[name]}'
            )
    if settings.restart and config.begin.workdir:
        raise ValueError('config.loop.restart: expected False with begin.workdir, found True')
    horizons = turns.Horizons(
        agent.obs_horizon, agent.pred_horizon, agent.action_horizon, config.env.episode_steps
    )
    if settings.queries_per_round > (most := settings.num_envs * horizons.num_blocks):
        raise ValueError(
            f'config.loop.queries_per_round: expected at most the {most} blocks of '
            f'{settings.num_envs} episodes, found {settings.queries_per_round}'
        )
    return settings, horizons


def expert(
    config: config_dict.ConfigDict, spec: types.Spec
) -> tuple[Callable[[PyTree], turns.Expert], PyTree]:
    """The expert that is asked, as a function of its weights, and the weights.

    A scripted expert, which the task brings along, has the weights ().

    Args:
      spec: of the environment.

    Raises:
      ValueError: the task has no expert and no run is named, or the run does not fit the task.
    """
    directory = config.expert.workdir
    if not directory:
        task, chosen = environment.task_of(config)
        if not task.expert:
            raise ValueError(
                f'config.expert.workdir: expected the workdir of a run, as {task.name!r} has no '
                'expert of its own; detour and pick have one'
            )
        scripted = importlib.import_module(task.expert).make(chosen)
        return lambda weights: turns.Expert(scripted, truth.truth), ()
    run = saved.open_run(directory, config.expert.checkpoint, key='config.expert')
    sections.check_fit(config, run.spec, spec)
    policy_of = run.policy_of(deterministic=True)
    return lambda weights: turns.Expert(policy_of(weights), truth.truth), run.first


def mark_of_expert(weights: PyTree) -> str:
    """Text that identifies the weights of the run that is asked; '' for a scripted expert."""
    return f', expert {fingerprint.of(weights)}' if jax.tree.leaves(weights) else ''


def make_gate(config, agent, demos, spec) -> tuple[gates.Gate, risk_lib.Risk | None]:
    """The gate that the config names, and the model of risk if that gate needs one, else None.

    Args:
      demos: windows of the demonstrations, whose observations scale the inputs of the model.
      spec: of the demonstrations.

    Raises:
      ValueError: there is no such gate, or it does not go with the agent or its ensemble.
    """
    loop = config.loop
    sections.choose('loop.gate', gates.GATES, loop.gate)
    if (loop.num_members > 1) != (loop.gate == 'thrifty'):
        wanted = 'at least 2' if loop.gate == 'thrifty' else '1'
        raise ValueError(
            f'config.loop.num_members: expected {wanted} for the gate {loop.gate!r}, '
            f'found {loop.num_members}'
        )
    if loop.gate == 'beta':
        return gates.beta(gates.schedule(loop.beta_schedule, loop.beta, loop.num_rounds)), None
    if loop.gate == 'expert':
        return gates.expert(config.agent.obs_horizon - 1), None
    if loop.gate == 'surprise':
        if not isinstance(agent, types.ScoringAgent):
            raise ValueError(
                "config.loop.gate: 'surprise' needs a diffusion policy or BC with a likelihood "
                f'(agent.head gaussian, mixture or categorical), found {config.agent.name!r}'
            )
        return gates.surprise(agent), None
    affine = normalize.fit_min_max(demos.obs)
    lengths = (config.agent.obs_horizon, config.agent.pred_horizon)
    risk = risk_lib.make(risk_lib.Config(), spec, *lengths, affine)
    return gates.thrifty(risk.predict), risk


def keep(about: dataset.Info, directory: Path, state: types.LoopState, index: int) -> None:
    """Writes a round's episodes to rounds/<round>.npz; a tag marks the interventions.

    Files of this round and of later ones are of a run that was given up, and are removed first.

    Args:
      about: what `dataset.about` says of the env; it goes into the files' info.
    """
    folder = directory / 'rounds'
    folder.mkdir(exist_ok=True)
    for old in folder.glob('*.npz'):
        number = old.stem.rsplit('_', 1)[-1]
        if number.isdigit() and int(number) >= index:
            old.unlink()
    steps = jax.device_get(state.memory.steps)
    several = steps.running.ndim == 4
    for i in range(len(steps.running) if several else 1):
        one = jax.tree.map(lambda x: x[i], steps) if several else steps
        name = f'seed{i}_{index:04d}.npz' if several else f'{index:04d}.npz'
        info = {**about, 'source': 'dagger', 'round': index}
        episodes_lib.save(folder / name, as_episodes(one, info))


def as_episodes(steps: turns.Steps, info: dict[str, str | float]) -> episodes_lib.Episodes:
    """The steps [B, Ta, N] of N robots, in B blocks of Ta steps, as episodes one after another."""

    def rows(x: Any) -> np.ndarray:
        x = np.moveaxis(np.asarray(x).reshape(-1, *x.shape[2:]), 1, 0)  # [N, B * Ta, ...]
        return x[running]

    running = np.moveaxis(np.asarray(steps.running).reshape(-1, steps.running.shape[2]), 1, 0)
    return episodes_lib.Episodes(
        obs=jax.tree.map(rows, steps.obs),
        action=np.clip(rows(steps.action), -1, 1),  # choices stay int8
        episode_ends=np.cumsum(running.sum(1)),
        info=info,
        tags={'intervention': rows(steps.intervention).astype(np.uint8)},
    )
