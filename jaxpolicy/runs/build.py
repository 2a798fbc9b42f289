"""From a config to the parts of a run, shared by all experiments."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxpolicy import agents, envs, types
from jaxpolicy.agents import transforms as agent_transforms
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import formats
from jaxpolicy.envs.wrap import disturb, randomize, time_limit, vectorize
from jaxpolicy.ops import normalize
from jaxpolicy.runs import demo_rewards as imitation
from jaxpolicy.runs import goals as goals_lib

PyTree = Any


ONLINE = ('on_policy', 'off_policy')  # loops in which an environment runs on the device


class Run(NamedTuple):
    """What `experiments.train` needs, with how much one call of `loop.step` does."""

    loop: types.Loop
    data: PyTree
    num_steps: int  # calls of loop.step
    updates_per_step: int
    env_steps_per_step: int
    spec: types.Spec  # of the experience
    fingerprint: str  # of the demonstrations; '' for online learning
    more_updates: int = 0  # that the first step does
    first_env_steps: int = 0  # before the first step
    traced: types.Loop | None = None  # of a loop that is no program: the same as one

    def updates(self, step: int) -> int:
        """Updates up to and with the step."""
        return step * self.updates_per_step + self.more_updates * (step > 0)

    def env_steps(self, step: int) -> int:
        """Environment steps up to and with the step; Python's integers do not overflow."""
        return step * self.env_steps_per_step + self.first_env_steps


def choose(key: str, table: dict[str, Any], name: str) -> Any:
    """table[name], or a ValueError that names the config's key and what there is."""
    if name not in table:
        raise ValueError(f'config.{key}: expected one of {sorted(table)}, found {name!r}')
    return table[name]


def section(module: Any, group: config_dict.ConfigDict) -> Any:
    """The `Config` of a module, from a group of the config.

    Raises:
      ValueError: the group has other fields, as when only its name was changed.
    """
    values = {name: group[name] for name in group if name != 'name'}
    known = {field.name for field in dataclasses.fields(module.Config)}
    if set(values) != known:
        raise ValueError(
            f'the fields of {group.name!r}: missing {sorted(known - set(values))}, unknown '
            f'{sorted(set(values) - known)}; choose a recipe for it, its name alone is not enough'
        )
    return module.Config(**values)


def make_agent(
    config: config_dict.ConfigDict,
    spec: types.Spec,
    decay_updates: int = 0,
    episodes: episodes_lib.Episodes | None = None,
) -> types.Agent:
    """The agent behind its normalisers, which are fitted to `episodes` if there are any."""
    online = config.loop.name in ONLINE
    allowed = ('running', 'none') if online else ('min_max', 'none')
    choose('normalize.obs', dict.fromkeys(allowed), config.normalize.obs)
    choose('normalize.action', dict.fromkeys(set(allowed) - {'running'}), config.normalize.action)
    module = choose('agent.name', agents.AGENTS, config.agent.name)
    agent_config = section(module, config.agent)
    if 'decay_updates' in config.agent and not agent_config.decay_updates:
        agent_config = dataclasses.replace(agent_config, decay_updates=decay_updates)
    agent = module.make(agent_config, spec)
    if 'augment' in config and config.augment.obs_noise:
        agent = agent_transforms.noise_obs(agent, config.augment.obs_noise)
    agent = _behind_normalizers(config, agent, spec, episodes)
    if (num_members := config.loop.get('num_members', 1)) > 1:
        agent = agent_transforms.ensemble(agent, num_members)
    return agent


def _behind_normalizers(config, agent, spec, episodes) -> types.Agent:
    if config.normalize.action == 'min_max':
        affine = normalize.identity(spec.action)
        if episodes is not None:
            affine = normalize.fit_min_max(jnp.asarray(episodes.action))
        agent = agent_transforms.normalize_action(agent, affine)
    if config.normalize.obs == 'running':
        if config.loop.name == 'off_policy':
            return agent_transforms.standardize_replay(agent, spec.obs)
        return agent_transforms.standardize_obs(agent, spec.obs)
    if config.normalize.obs == 'min_max':
        affine = normalize.identity(spec.obs)
        if episodes is not None:
            affine = normalize.fit_min_max(jax.tree.map(jnp.asarray, episodes.obs))
        agent = agent_transforms.normalize_obs(agent, affine)
    return agent


def env_module(config: config_dict.ConfigDict) -> tuple[Any, Any]:
    """The module of the environment, which runs on the device, and its Config."""
    module, defaults = envs.resolve(config.env.name)
    chosen = section(module, config.env)
    if 'task' in config.env and config.env.task != defaults.task:
        raise ValueError(
            f'env.task: expected {defaults.task!r} as in env.name, found {config.env.task!r}'
        )
    return module, chosen


def make_env(
    config: config_dict.ConfigDict, within: Callable[[types.Env], types.Env] | None = None
) -> types.Env:
    """The environment: randomised, rewarded, disturbed, time-limited and vectorised.

    `within` is applied below the disturbances.
    """
    module, chosen = env_module(config)
    env = module.make(chosen, *_randomization(config, module))
    env = within(env) if within else env
    env = goals_lib.shape(config, chosen, imitation.apply(config, env))
    env = disturb.apply(env, disturb.Config(**config.disturb))
    return vectorize.vectorize(time_limit.time_limit(env, chosen.episode_steps))


def _randomization(config: config_dict.ConfigDict, module: Any) -> tuple:
    """() or what the module's `make` takes as its domain randomisation."""
    entries = randomize.parse(config.randomize)
    if not entries:
        return ()
    if module not in envs.RANDOMIZABLE:
        known = sorted(m.__name__.split('.')[-1] for m in envs.RANDOMIZABLE)
        raise ValueError(f'config.randomize: expected an env of {known}, found {config.env.name!r}')
    return (randomize.drawer(entries),)


def load_episodes(config: config_dict.ConfigDict) -> episodes_lib.Episodes:
    """The demonstrations of all files, of the first one the subset that the config asks for."""
    data = config.data
    load = choose('data.format', formats.FORMATS, data.format)
    options = {'obs': config.env.obs} if data.format == 'pusht_zarr' else {}
    path, *more = data.path.split(',')
    episodes = load(path, **options)
    episodes = episodes_lib.subset(episodes, data.num_episodes or None, data.subset_seed)
    if not more:
        return episodes
    return episodes_lib.concatenate([episodes, *(episodes_lib.load(p) for p in more)])


def check_fit(config: config_dict.ConfigDict, data: types.Spec, env: types.Spec) -> None:
    """Raises a ValueError where demonstrations and environment have other shapes or actions."""
    if types.is_discrete(env) and not types.is_discrete(data):
        raise ValueError(
            'env.name: expected continuous actions, as demonstrations have them, found choices in '
            f'{config.env.name!r}'
        )
    found, wanted = (jax.tree.map(lambda s: s.shape, spec) for spec in (data, env))
    if found != wanted:
        raise ValueError(
            f'env {config.env.name!r} has {wanted}, the experience to learn from has {found}'
        )


def check_data(run: Run, fingerprint: str) -> None:
    """Raises a ValueError where a run would continue with other data than it began with."""
    if run.fingerprint != fingerprint:
        raise ValueError(
            f'data.path: expected the data that this run began with ({fingerprint}), '
            f'found {run.fingerprint}'
        )


def spec_of(episodes: episodes_lib.Episodes) -> types.Spec:
    """Shapes of what was demonstrated."""
    return types.Spec(
        obs=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), episodes.obs),
        action=jax.ShapeDtypeStruct(episodes.action.shape[1:], jnp.float32),
    )


def fingerprint(episodes: episodes_lib.Episodes) -> str:
    """What tells one set of demonstrations from another."""
    count, rows = len(episodes.episode_ends), len(episodes.action)
    return f'{count} episodes, {rows} steps, crc {zlib.crc32(episodes.action.tobytes())}'
