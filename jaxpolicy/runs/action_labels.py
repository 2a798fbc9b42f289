"""Gives demonstrations without actions some, by inverse dynamics.

Policies explore the environment, a model learns from their experience which action leads from one
observation to the next, and the model labels the observations of the demonstrations.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import ranges, types
from jaxpolicy.agents import inverse_dynamics
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.loops import collect, off_policy, rollout
from jaxpolicy.runs import dataset, demonstrators, environment

PyTree = Any

NUM_ENVS, NUM_HELD_OUT = 64, 8  # worlds to learn from, and to measure the model in
SMOOTHNESS = 0.9  # correlation of a smooth random action with the last one
UPDATES_PER_CALL = 20  # minibatches that are drawn at once


@dataclasses.dataclass(frozen=True)
class Config:
    """How much experience is gathered, and how the model learns from it."""

    explore_steps: ranges.Count = 20_000  # env steps of a policy, rounded up; 1/8 more is held out
    num_updates: ranges.Count = 5_000
    batch_size: ranges.Count = 256


class Explorer(NamedTuple):
    """Where experience comes from: an environment, and the policies that explore it.

    env: vectorised and time-limited.
    policies: functions weights -> Policy, by name.
    weights: of the run whose policy explores; () without a run.
    about: what files of episodes say of the environment in their `info`.
    """

    env: types.Env
    policies: Mapping[str, Any]
    weights: PyTree
    about: Mapping[str, str | float]


class Error(NamedTuple):
    """The error of the model on experience that it has not seen."""

    rmse: float  # in units of actions
    explained: float  # share of the actions' variance that the model explains
    num_broken: int = 0  # held-out steps that broke and are left out


def explorer(name: str, directory: str, changes: list[str]) -> Explorer:
    """Who explores: random policies, and that of the run in `directory` if there is one.

    Raises:
      ValueError: neither an env nor a run is named, or the run is of another env than the named.
    """
    if directory:
        run = demonstrators.of_run(Path(directory), 'latest', 'deterministic', changes)
        if name and name != run.info['env']:
            raise ValueError(f'--env: expected {run.info["env"]!r} as in the run, found {name!r}')
        policies = random_policies(run.env.spec) | {'run': run.policy_of}
        return Explorer(run.env, policies, run.weights, run.info)
    if not name:
        raise ValueError('--env: expected a task, or a --workdir with one')
    config = demonstrators.world(name, changes, ('env', 'disturb', 'randomize'))
    env = environment.make_env(config)
    return Explorer(env, random_policies(env.spec), (), dataset.about(config))


def check_fit(spec: types.Spec, shown: episodes_lib.Episodes) -> None:
    """Raises a ValueError where demonstrations and environment see or do different things."""
    both = (dataset.spec_of(shown), spec)
    for flag, each in zip(('--demos', '--env'), both, strict=True):
        if types.is_discrete(each):
            raise ValueError(f'{flag}: expected continuous actions, found choices')
    found, wanted = (jax.tree.map(lambda s: s.shape, each) for each in both)
    if found != wanted:
        raise ValueError(f'--demos: expected {wanted} as in the env, found {found}')


def random_policies(spec: types.Spec) -> dict[str, Any]:
    """Policies by name: uniform actions, and smooth ones, which get further from the start."""
    return {
        'uniform': lambda weights: off_policy.random_policy(spec),
        'smooth': lambda weights: smooth_policy(spec),
    }


def smooth_policy(spec: types.Spec) -> types.Policy:
    """Clipped Gaussian actions of unit variance, each correlated with the one before."""

    def init(obs):
        num = jax.tree.leaves(obs)[0].shape[0]
        return jnp.zeros((num, *spec.action.shape), spec.action.dtype)

    def act(carry, obs, key):
        fresh = jax.random.normal(key, carry.shape, carry.dtype)
        carry = SMOOTHNESS * carry + (1.0 - SMOOTHNESS**2) ** 0.5 * fresh
        return carry, jnp.clip(carry, -1.0, 1.0), {}

    return types.Policy(init, act)


def explore(
    env: types.Env, make_policy: Any, num_steps: int, weights: PyTree, key: types.Key
) -> types.Transition:
    """Lets a policy act in all worlds; its steps [T, N], with the actions as they were executed.

    Args:
      make_policy: weights -> Policy.
      num_steps: how many steps are made at least in the worlds that are learnt from.
    """
    policy = collect.clipped(make_policy(weights))
    pool_key, reset_key, rollout_key = jax.random.split(key, 3)
    num_envs = NUM_ENVS + NUM_HELD_OUT
    auto = auto_reset.auto_reset(env, env.reset(jax.random.split(pool_key, num_envs)))
    state = auto.reset(jax.random.split(reset_key, num_envs))
    length = -(-num_steps // NUM_ENVS)
    carry = policy.init(state.obs)
    _, _, batch, _ = rollout.rollout(auto, policy, state, carry, rollout_key, length)
    return batch.replace(extras={'valid': batch.extras['valid']}, carry=())


def learn(
    agent: types.ReplayAgent,
    spec: types.Spec,
    config: Config,
    batch: types.Transition,
    key: types.Key,
) -> PyTree:
    """Trains the inverse model on experience [T, N]; returns its train state."""
    init_key, learn_key = jax.random.split(key)
    buffer = buffer_lib.add(buffer_lib.make(spec, NUM_ENVS, len(batch.reward)), batch)
    state = agent.observe(agent.init(init_key), batch)

    def update(state, key):
        sample_key, update_key = jax.random.split(key)
        shape = (UPDATES_PER_CALL, config.batch_size)
        minibatches = buffer_lib.sample(buffer, sample_key, shape, 1, 1.0)
        return agent.update(state, minibatches, update_key)

    keys = jax.random.split(learn_key, -(-config.num_updates // UPDATES_PER_CALL))
    return jax.lax.scan(update, state, keys)[0]


def fit(
    who: Explorer, config: Config, seed: int
) -> tuple[types.ReplayAgent, PyTree, dict[str, Error]]:
    """Explores and trains the inverse model: the agent, its state, and its errors by policy.

    Raises:
      ValueError: every step of a policy's exploration broke, to learn from or held out.
    """
    env, spec = who.env, who.env.spec
    agent = inverse_dynamics.make(inverse_dynamics.Config(), spec)
    key, learn_key = jax.random.split(jax.random.key(seed))
    seen, unseen = [], {}
    for index, (name, make_policy) in enumerate(who.policies.items()):
        run = jax.jit(functools.partial(explore, env, make_policy, config.explore_steps))
        batch = run(who.weights, jax.random.fold_in(key, index))
        valid = np.asarray(batch.extras['valid']) > 0
        if not (valid[:, :NUM_ENVS].any() and valid[:, NUM_ENVS:].any()):
            raise ValueError(f'exploring by {name!r}: all steps broke (a number was not finite)')
        seen.append(jax.tree.map(lambda x: x[:, :NUM_ENVS], batch))
        unseen[name] = jax.tree.map(lambda x: x[:, NUM_ENVS:], batch)
    batch = jax.tree.map(lambda *x: jnp.concatenate(x), *seen)
    state = jax.jit(functools.partial(learn, agent, spec, config))(batch, learn_key)
    return agent, state, {name: error(agent, state, held) for name, held in unseen.items()}


def error(agent: types.ReplayAgent, state: PyTree, batch: types.Transition) -> Error:
    """The error of the model's actions against those of experience [T, N]."""
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (batch.obs, batch.next_obs, batch.action)
    )
    obs, next_obs, action = jax.tree.map(
        lambda x: x[np.asarray(batch.extras['valid']).reshape(-1) > 0], flat
    )
    num_broken = batch.reward.size - len(action)
    found = compare(predict(agent, state, obs, next_obs), np.asarray(action))
    return found._replace(num_broken=num_broken)


def compare(found: np.ndarray, true: np.ndarray) -> Error:
    """The error of actions [n, A] against the true ones [n, A]."""
    square = float(((found - true) ** 2).mean())
    return Error(square**0.5, 1.0 - square / max(float(true.var(axis=0).mean()), 1e-12))


def predict(agent: types.ReplayAgent, state: PyTree, obs: PyTree, next_obs: PyTree) -> np.ndarray:
    """The likeliest actions [n, A] between observations and the next ones, in [-1, 1]."""

    def act(state, pair):
        return agent.policy(state, True).act((), pair, jax.random.key(0))[1]

    action = jax.jit(act)(state, (obs, next_obs))
    return np.clip(np.asarray(action), -1.0, 1.0)


def pairs(episodes: episodes_lib.Episodes) -> tuple[PyTree, PyTree, np.ndarray]:
    """Observations that have a next one, the next ones, and their rows: two [m, ...], [m] int.

    Without `last_obs`, an episode's last observation has no next one.

    Raises:
      ValueError: an episode has no pair at all.
    """
    ends = np.asarray(episodes.episode_ends)
    if episodes.last_obs is not None:
        return episodes.obs, episodes_lib.next_obs(episodes), np.arange(ends[-1])
    if (np.diff(ends, prepend=0) < 2).any():
        raise ValueError('--demos: expected at least two observations in each episode')
    rows = np.setdiff1d(np.arange(ends[-1]), ends - 1)
    obs, next_obs = (jax.tree.map(lambda x: x[index], episodes.obs) for index in (rows, rows + 1))
    return obs, next_obs, rows


def label(
    agent: types.ReplayAgent, state: PyTree, episodes: episodes_lib.Episodes, words: str
) -> episodes_lib.Episodes:
    """The demonstrations with the model's actions; their own actions, rewards and tags are dropped.

    Where a file does not say what an episode's last action led to, its last row is left out.

    Args:
      words: for the file, how the model was made.
    """
    obs, next_obs, rows = pairs(episodes)
    ends = np.searchsorted(rows, episodes.episode_ends)
    source = episodes.info.get('source', 'unknown')
    return episodes_lib.Episodes(
        obs=obs,
        action=predict(agent, state, obs, next_obs).astype(np.float32),
        episode_ends=ends,
        info={**episodes.info, 'source': f'{source}; actions labelled: {words}', 'labels': words},
        last_obs=jax.tree.map(lambda x: x[ends - 1], next_obs),
    )
