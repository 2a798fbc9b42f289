"""Builds the agent of a config, with its normalisers around it, and the policy that it acts by."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.agents import transforms
from jaxpolicy.ops import normalize
from jaxpolicy.runs import sections

IMITATION = ('offline', 'dagger')  # kinds of runs that learn chunks from demonstrations
ONLINE = ('on_policy', 'off_policy')  # kinds in which an environment runs on the device
EXPERIENCE = {  # kind of run: what its agents learn from
    **dict.fromkeys(IMITATION, 'chunks'),
    'on_policy': 'rollouts',
    'off_policy': 'replay',
    'offline_rl': 'replay',
}
NO_NUMBERS: Mapping[str, Any] = MappingProxyType({})  # the config's own stay
# How a policy acts: whether by the mode of its distribution, and not by samples of it.
MODES = {'deterministic': True, 'stochastic': False}


def make_agent(
    config: config_dict.ConfigDict,
    spec: types.Spec,
    decay_updates: int = 0,
    episodes: Any = None,
    numbers: Mapping[str, Any] = NO_NUMBERS,
) -> Any:
    """Builds the agent, with the normalisers of the config around it.

    Args:
      decay_updates: updates over which the learning rate decays, where the config says 0.
      episodes: the `Episodes` that normalisers are fitted to; None where a
        restored state brings their numbers.
      numbers: fields of the config's group `agent` and the values that they have instead; they may
        be traced.

    Raises:
      ValueError: an agent or normaliser is unknown, or does not go with this kind of run.
    """
    kind = config.loop.name
    module = registry.resolve('agents', config.agent.name, 'config.agent.name')
    settings = sections.section(module.Config, config.agent, 'agent')
    if 'decay_updates' in config.agent and not settings.decay_updates:
        settings = dataclasses.replace(settings, decay_updates=decay_updates)
    if EXPERIENCE[kind] != module.LEARNS_FROM:
        raise ValueError(
            f'config.agent.name: expected one that learns from {EXPERIENCE[kind]} for the loop '
            f'{kind!r}, found {config.agent.name!r}, which learns from {module.LEARNS_FROM}'
        )
    settings = dataclasses.replace(settings, **numbers)
    agent = module.make(settings, spec)
    if kind in IMITATION and (config.execute.warm_start_steps or config.execute.inpaint_actions):
        agent = _from_last_chunk(config, module, settings, spec, agent)
    if kind in IMITATION and config.augment.obs_noise:
        agent = transforms.noise_obs(agent, config.augment.obs_noise)
    agent = _behind_normalizers(config, agent, spec, episodes)
    if kind == 'dagger' and config.loop.num_members > 1:
        agent = transforms.ensemble(agent, config.loop.num_members)
    return agent


def _from_last_chunk(config, module, settings, spec, agent) -> Any:
    """The agent, which now starts each plan from its last chunk, as config.execute says.

    Raises:
      ValueError: the agent does not sample chunks by denoising.
    """
    from jaxpolicy.agents.parts import last_chunk  # few runs need it

    if 'sampling' not in vars(module):
        raise ValueError(
            'config.execute.warm_start_steps, config.execute.inpaint_actions: expected 0 for an '
            f'agent that does not denoise its chunks, found {config.agent.name!r}'
        )
    return last_chunk.plan_from_last_chunk(
        agent,
        module.sampling(settings, spec),
        settings.action_horizon,
        settings.obs_horizon,
        config.execute.warm_start_steps,
        config.execute.inpaint_actions,
    )


def _behind_normalizers(config, agent, spec, episodes) -> Any:
    allowed = ('running', 'none') if config.loop.name in ONLINE else ('min_max', 'none')
    how = config.normalize
    if config.loop.name in ONLINE and 'min_max' in (how.obs, how.action):
        if not config.begin.workdir:
            raise ValueError(
                "config.begin.workdir: expected a run whose ranges config.normalize's 'min_max' "
                "takes over, found ''"
            )
        allowed += ('min_max',)
    sections.choose('normalize.obs', allowed, how.obs)
    sections.choose('normalize.action', set(allowed) - {'running'}, how.action)
    if how.action == 'min_max':
        if types.is_discrete(spec):
            raise ValueError(
                "config.normalize.action: expected 'none' for actions that are choices, found "
                f'{how.action!r}'
            )
        affine = normalize.identity(spec.action)
        # DAgger's expert may act outside the range of the few demonstrations, and learners clip.
        if episodes is not None and config.loop.name != 'dagger':
            affine = normalize.fit_min_max(episodes.action)
        agent = transforms.normalize_action(agent, affine)
    if how.obs == 'running':
        if config.loop.name == 'off_policy':
            return transforms.standardize_replay(agent, spec.obs)
        return transforms.standardize_obs(agent, spec.obs)
    if how.obs == 'min_max':
        affine = normalize.identity(spec.obs)
        if episodes is not None:
            affine = normalize.fit_min_max(episodes.obs)
        agent = transforms.normalize_obs(agent, affine)
    return agent


def make_policy(
    config: config_dict.ConfigDict, agent: Any
) -> Callable[[types.PyTree, Any], types.Policy]:
    """A function (train state, deterministic) -> Policy that acts as the config says.

    Agents that plan chunks execute them as config.execute says.

    Raises:
      ValueError: the way of executing chunks is unknown, or does not know the delay that is set.
    """
    if config.loop.name not in IMITATION:
        return agent.policy
    from jaxpolicy.loops import policies  # only agents that plan chunks need it

    To, Ta, how = config.agent.obs_horizon, config.agent.action_horizon, config.execute
    sections.choose('execute.name', ('receding_horizon', 'temporal_ensemble'), how.name)
    if how.name == 'temporal_ensemble':
        if how.delay:
            raise ValueError(
                f'config.execute.delay: expected 0 with temporal_ensemble, found {how.delay}'
            )
        return lambda train, deterministic: policies.temporal_ensemble(
            agent.policy(train, deterministic), To, how.ensemble_decay
        )
    return lambda train, deterministic: policies.receding_horizon(
        agent.policy(train, deterministic), To, Ta, how.delay
    )


def acts_deterministically(config: config_dict.ConfigDict) -> bool:
    """Whether the policy that gives the score is deterministic, by the first of config.eval.modes.

    Raises:
      ValueError: there is no mode, or an unknown one.
    """
    for mode in config.eval.modes:
        sections.choose('eval.modes', MODES, mode)
    if not config.eval.modes:
        raise ValueError(f'config.eval.modes: expected some of {sorted(MODES)}, found none')
    return MODES[config.eval.modes[0]]


def template(agent: Any, num_seeds: int) -> types.PyTree:
    """The shapes of a run's train state; with several seeds every leaf leads with [S]."""
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    if num_seeds == 1:
        return shapes
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_seeds, *x.shape), x.dtype), shapes)


def first(train: types.PyTree, num_seeds: int) -> types.PyTree:
    """The train state of the first seed, of a run with one seed or several."""
    return train if num_seeds == 1 else jax.tree.map(lambda x: x[0], train)
