"""The library's front door: learning without flags, config files or directories.

`fit` and `train` make the same runs as the command `train`, from the same defaults, and run them in
this process. Fields of the loop and of the agent are given by their names, as num_epochs=50 or
learning_rate=3e-4. The agent's `Config` and the `Settings` of the kind of run (`runs.kinds.KINDS`)
list them all.
"""

import contextlib
import difflib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows
from jaxpolicy.envs import validate
from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.io import checkpoint, progress, spec_file, workdir
from jaxpolicy.loops import offline, policies
from jaxpolicy.runs import environment, kinds, learner, program, recipe, upgrade

FROM_DEMONSTRATIONS = {'chunks': 'offline', 'replay': 'offline_rl'}  # LEARNS_FROM: kind of run
FROM_EXPERIENCE = {'rollouts': 'on_policy', 'replay': 'off_policy'}


class Trained(NamedTuple):
    """A trained agent.

    config: all that it was trained with, as a recipe has it.
    spec: shapes and dtypes of what it sees and does.
    state: its LoopState after the last round; `state.train` has the weights and normalisers.
    rows: the metrics of each round.
    """

    config: config_dict.ConfigDict
    spec: types.Spec
    state: types.LoopState
    rows: list[dict[str, float]]

    def policy(self, num_robots: int = 1, deterministic: bool = True) -> types.Policy:
        """The policy for N robots, compiled; obs [N, ...] in, action [N, A] out."""
        agent = learner.make_agent(self.config, self.spec)
        make = learner.make_policy(self.config, agent)
        return policies.ahead_of_time(
            lambda train: make(train, deterministic), self.state.train, self.spec, num_robots
        )


def fit(
    agent: str,
    episodes: episodes_lib.Episodes,
    *,
    seed: int = 0,
    normalize_obs: str = 'min_max',
    normalize_action: str = 'none',
    **fields: Any,
) -> Trained:
    """Trains an agent on demonstrations; one that learns values also learns from their rewards.

    Args:
      agent: its name, such as 'diffusion', 'bc' or 'iql', or the dotted name of a module.
      episodes: the demonstrations; actions lie in [-1, 1], or are choices (one-hot int8).
      seed: of everything that is random.
      normalize_obs, normalize_action: 'min_max' (to [-1, 1] over the demonstrations) or 'none'.
      fields: of the loop, as num_epochs, and of the agent, as learning_rate.

    Raises:
      ValueError: unsound episodes, an unknown field, or numbers that do not fit.
    """
    episodes = episodes_lib.validate(episodes, 'episodes')
    kind = _kind_of(agent, FROM_DEMONSTRATIONS, 'demonstrations')
    if kind == 'offline':
        config = recipe.offline(agent, '', 'episodes', '')
    else:
        config = recipe.offline_rl(agent, '', '')
    config.normalize.obs, config.normalize.action = normalize_obs, normalize_action
    _set(config, fields)
    if kind == 'offline':
        _scale(config, episodes, fields)
    kinds.check_used(config)
    return _run(config, kinds.make_run(config, episodes), seed)


def train(
    agent: str,
    env: types.Env,
    *,
    episode_steps: int,
    seed: int = 0,
    normalize_obs: str = '',
    **fields: Any,
) -> Trained:
    """Trains an agent in your own environment, many copies of which run on the device at once.

    Args:
      agent: its name, such as 'ppo' or 'sac', or the dotted name of a module.
      env: unbatched, without a time limit and without resets of its own: both are added.
      episode_steps: the time limit.
      seed: of everything that is random.
      normalize_obs: 'running' or 'none'; '': what recipes of this kind of run have.
      fields: of the loop, as num_env_steps and num_envs, and of the agent, as learning_rate.

    Raises:
      ValueError: an environment whose parts do not fit together, an unknown field, or numbers that
        do not fit.
    """
    validate.check(env)
    kind = _kind_of(agent, FROM_EXPERIENCE, 'experience')
    config = (recipe.on_policy if kind == 'on_policy' else recipe.off_policy)(agent, '')
    config.env = config_dict.ConfigDict({'name': '', 'episode_steps': episode_steps})
    config.normalize.obs = normalize_obs or config.normalize.obs
    _set(config, fields)
    env = environment.wrapped(env, config.loop.wrap, 'wrap')
    world = vectorize.vectorize(time_limit.time_limit(env, episode_steps))
    kinds.check_used(config)
    return _run(config, kinds.make_run(config, world), seed)


def save(directory: str | Path, trained: Trained) -> None:
    """Writes a trained agent to a directory, for `jaxpolicy.load` and for the commands.

    Raises:
      ValueError: there is a run in the directory already.
    """
    directory = Path(directory)
    if not checkpoint.is_empty(directory / checkpoint.FOLDER):
        raise ValueError(f'{directory}: expected no run there, found one')
    workdir.prepare(directory, trained.config, 0, upgrade=upgrade.upgrade, fresh=True)
    spec_file.write(directory, trained.spec, {'env': '', 'agent': trained.config.agent.name})
    # Only weights and key are saved: what belongs to the environment is of no use to a policy.
    state = types.LoopState(train=trained.state.train, env=(), key=trained.state.key)
    with contextlib.closing(checkpoint.open_manager(directory / checkpoint.FOLDER)) as manager:
        checkpoint.save(manager, len(trained.rows), state, {'round': len(trained.rows)})
        manager.wait_until_finished()


def _kind_of(agent: str, table: dict[str, str], what: str) -> str:
    """The kind of run in which the agent learns from what is at hand.

    Raises:
      ValueError: it learns from something else.
    """
    module = registry.resolve('agents', agent, 'agent')
    if module.LEARNS_FROM not in table:
        raise ValueError(
            f'agent: expected one that learns from {what} ({" or ".join(table)}), found {agent!r}, '
            f'which learns from {module.LEARNS_FROM}'
        )
    return table[module.LEARNS_FROM]


def _set(config: config_dict.ConfigDict, fields: dict[str, Any]) -> None:
    """Puts each field where it belongs, in the loop's group or in the agent's."""
    groups = (config.loop, config.agent)
    known = [name for group in groups for name in group if name != 'name']
    for name, value in fields.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'there are {sorted(known)}'
            raise ValueError(f'{name}: expected a field of the loop or of the agent; {hint}')
        group = groups[0] if name in groups[0] else groups[1]
        try:
            group[name] = value
        except TypeError as error:
            raise ValueError(f'{name}: {error}') from error


def _scale(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes, given: dict[str, Any]
) -> None:
    """Fits the batch and the warm-up to the data, where the caller does not say them.

    The defaults are those of large runs: with little data a batch would be larger than all of it,
    and training would end before its learning rate has warmed up.
    """
    agent, loop = config.agent, config.loop
    horizons = (agent.obs_horizon, agent.pred_horizon, agent.action_horizon)
    num_windows = windows.num_windows(windows.make(episodes, *horizons))
    if 'batch_size' not in given:
        loop.batch_size = min(loop.batch_size, num_windows)
    if 'warmup_updates' in agent and 'warmup_updates' not in given:
        num_updates = loop.num_epochs * offline.num_updates(num_windows, loop.batch_size)
        agent.warmup_updates = min(agent.warmup_updates, num_updates // 10)


def _run(config: config_dict.ConfigDict, run: kinds.Run, seed: int) -> Trained:
    """Runs all rounds in this process."""
    compiled = program.of_run(run, seed, 1, None)
    state, rows = compiled.init(), []
    with progress.Progress(run.num_rounds, 0, 'round') as bar:
        for index in range(run.num_rounds):
            state, metrics = compiled.step(state, run.data)
            rows.append({name: float(np.asarray(x)) for name, x in metrics.items()})
            bar.update(index + 1)
    return Trained(config.lock(), run.spec, jax.block_until_ready(state), rows)
