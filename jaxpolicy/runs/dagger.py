"""Interactive imitation from a config: its expert, its gate, its run, and the episodes it keeps."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import envs, types
from jaxpolicy.agents.parts import risk as risk_lib
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.envs.wrap import truth
from jaxpolicy.io import checkpoint, workdir
from jaxpolicy.loops.dagger import gates
from jaxpolicy.loops.dagger import loop as dagger
from jaxpolicy.loops.dagger import turns as explore
from jaxpolicy.ops import normalize
from jaxpolicy.runs import build, evaluation
from jaxpolicy.runs import kinds as runs
from jaxpolicy.runs import saved as trained

PyTree = Any


def make_run(config: config_dict.ConfigDict) -> build.Run:
    """Everything that training needs, whatever the loop.

    Raises:
      ValueError: the config names what is not there, or its numbers do not fit.
    """
    if config.loop.name != 'dagger':
        return runs.make_run(config)
    episodes = build.load_episodes(config)
    parts, data = make_parts(config, episodes)
    settings, horizons = parts.config, parts.horizons
    steps = 2 * settings.num_envs * horizons.num_blocks * horizons.action
    steps += settings.queries_per_round * (horizons.pred - horizons.obs + 1)
    return build.Run(
        loop=dagger.make(parts),
        data=data,
        num_steps=settings.num_rounds + 1,
        updates_per_step=settings.updates_per_round,
        env_steps_per_step=steps,
        spec=parts.env.spec,
        fingerprint=build.fingerprint(episodes),
        more_updates=settings.first_updates - settings.updates_per_round,
    )


def make_parts(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes
) -> tuple[dagger.Parts, dagger.Data]:
    """The parts of the loop, and the data that it begins with."""
    settings, horizons = _settings(config)
    env, spec = build.make_env(config, truth.remember_truth), build.spec_of(episodes)
    build.check_fit(config, spec, env.spec)
    lengths = (horizons.obs, horizons.pred, horizons.action)
    demos = windows.make(episodes, *lengths, config.data.get('tag', ''))
    total = settings.first_updates + settings.num_rounds * settings.updates_per_round
    total = settings.updates_per_round if settings.restart else total
    agent = build.make_agent(config, spec, total, episodes)
    make_expert, weights = expert(config, env.spec)
    gate, risk = make_gate(config, agent, demos, spec)
    how = evaluation.is_deterministic(config)
    parts = dagger.Parts(agent, env, make_expert, gate, risk, settings, horizons, how)
    return parts, dagger.Data(demos, weights)


def _settings(config: config_dict.ConfigDict) -> tuple[dagger.Config, explore.Horizons]:
    """The numbers of the loop, checked."""
    runs.check_counts(config.loop, may_be_zero=('first_updates', 'beta', 'label_share'))
    if config.loop.label_share >= 1.0:
        raise ValueError(
            f'config.loop.label_share: expected 0 to below 1, found {config.loop.label_share}'
        )
    if config.env.name in envs.HOST_ENVS:
        raise ValueError(
            f'config.env.name: expected an env on the device, found {config.env.name!r}; '
            "'pusht' is Push-T there"
        )
    if config.loop.restart and config.begin.workdir:
        raise ValueError('config.loop.restart: expected False for a run that begins with another')
    names = [field.name for field in dataclasses.fields(dagger.Config)]
    settings, agent = dagger.Config(**{name: config.loop[name] for name in names}), config.agent
    horizons = explore.Horizons(
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
) -> tuple[Callable[[PyTree], explore.Expert], PyTree]:
    """Who is asked: a function of weights, and the weights, () for a scripted expert."""
    directory = config.expert.workdir
    if not directory:
        name = config.env.name
        if name not in envs.EXPERTS:
            raise ValueError(
                f'config.expert.workdir: expected the workdir of a run, as {name!r} has no expert '
                f'of its own; those that have one: {sorted(envs.EXPERTS)}'
            )
        scripted = envs.EXPERTS[name].make(build.env_module(config)[1])
        return lambda weights: explore.Expert(scripted, truth.truth), ()
    theirs = workdir.load_config(Path(directory))
    num_seeds = workdir.load_num_seeds(Path(directory))
    manager, step = trained.open_checkpoint(Path(directory), config.expert.checkpoint)
    weights = checkpoint.restore_train(manager, step, evaluation.template(theirs, spec, num_seeds))
    policy_of = evaluation.make_policy(theirs, spec, deterministic=True)
    weights = evaluation.first(weights, num_seeds)
    return lambda w: explore.Expert(policy_of(w), truth.truth), weights


def make_gate(config, agent, demos, spec) -> tuple[gates.Gate, risk_lib.Risk | None]:
    """The gate that the config names, and the risk that it wants to know."""
    loop = config.loop
    build.choose('loop.gate', dict.fromkeys(gates.GATES), loop.gate)
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
        if agent.surprise is types.no_surprise:
            raise ValueError(
                "config.loop.gate: 'surprise' needs a diffusion policy or BC with a likelihood "
                f'(agent.head gaussian or mixture), found {config.agent.name!r}'
            )
        return gates.surprise(agent), None
    affine = normalize.fit_min_max(demos.obs)
    lengths = (config.agent.obs_horizon, config.agent.pred_horizon)
    risk = risk_lib.make(risk_lib.Config(), spec, *lengths, affine)
    return gates.thrifty(risk.predict), risk


def keeper(
    config: config_dict.ConfigDict, directory: Path
) -> Callable[[types.LoopState, int], None] | None:
    """Writes the episodes of a round, rounds/<round>.npz, with the tag 'intervention'."""
    if config.loop.name != 'dagger':
        return None
    folder = directory / 'rounds'
    folder.mkdir(exist_ok=True)

    def keep(state: types.LoopState, step: int) -> None:
        steps = jax.device_get(state.memory.steps)
        several = steps.running.ndim == 4
        for i in range(len(steps.running) if several else 1):
            one = jax.tree.map(lambda x: x[i], steps) if several else steps
            name = f'seed{i}_{step:04d}.npz' if several else f'{step:04d}.npz'
            info = {'env': config.env.name, 'source': 'dagger', 'round': step}
            episodes_lib.save(folder / name, as_episodes(one, info))

    return keep


def as_episodes(steps: explore.Steps, info: dict[str, str | float]) -> episodes_lib.Episodes:
    """Steps [B, Ta, N] as episodes, one after another."""

    def rows(x: Any) -> np.ndarray:
        x = np.moveaxis(np.asarray(x).reshape(-1, *x.shape[2:]), 1, 0)  # [N, B * Ta, ...]
        return x[running]

    running = np.moveaxis(np.asarray(steps.running).reshape(-1, steps.running.shape[2]), 1, 0)
    return episodes_lib.Episodes(
        obs=jax.tree.map(rows, steps.obs),
        action=np.clip(rows(steps.action), -1.0, 1.0),
        episode_ends=np.cumsum(running.sum(1)),
        info=info,
        tags={'intervention': rows(steps.intervention).astype(np.uint8)},
    )
