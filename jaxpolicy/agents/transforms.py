"""Agent -> Agent: what surrounds a learning rule. Statistics live in `state.stats`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.ops import normalize

PyTree = Any


def noise_obs(agent: types.Agent, std: float) -> types.Agent:
    """The agent learns from observations with Gaussian noise, and acts on clean ones.

    Wrap it in `normalize_obs`, so that `std` is in normalised units.
    """

    def update(state, batch, key):
        noise_key, update_key = jax.random.split(key)
        leaves, tree = jax.tree.flatten(batch.obs)
        keys = jax.random.split(noise_key, len(leaves))
        noisy = [
            leaf + std * jax.random.normal(k, leaf.shape)
            for leaf, k in zip(leaves, keys, strict=True)
        ]
        batch = batch.replace(obs=jax.tree.unflatten(tree, noisy))
        return agent.update(state, batch, update_key)

    return agent._replace(update=update)


def normalize_obs(agent: types.Agent, affine: normalize.Affine) -> types.Agent:
    """The agent sees observations through a fixed normaliser, kept in `stats['obs']`."""

    def init(key):
        state = agent.init(key)
        return state.replace(stats={**state.stats, 'obs': affine})

    def update(state, batch, key):
        seen = batch.replace(obs=normalize.apply(state.stats['obs'], batch.obs))
        if isinstance(batch, types.Transition):
            seen = seen.replace(next_obs=normalize.apply(state.stats['obs'], batch.next_obs))
        return agent.update(state, seen, key)

    def act(state, obs, key, deterministic=False):
        obs = _see(lambda x: normalize.apply(state.stats['obs'], x), obs)
        return agent.act(state, obs, key, deterministic)

    def surprise(state, chunk, key):
        seen = chunk.replace(obs=normalize.apply(state.stats['obs'], chunk.obs))
        return agent.surprise(state, seen, key)

    return agent._replace(init=init, update=update, act=act, surprise=_known(agent, surprise))


def normalize_action(agent: types.Agent, affine: normalize.Affine) -> types.Agent:
    """The agent learns and emits normalised actions; kept in `stats['action']`."""

    def init(key):
        state = agent.init(key)
        return state.replace(stats={**state.stats, 'action': affine})

    def update(state, batch, key):
        action = normalize.apply(state.stats['action'], batch.action)
        return agent.update(state, batch.replace(action=action), key)

    def act(state, obs, key, deterministic=False):
        action, extras = agent.act(state, obs, key, deterministic)
        return normalize.invert(state.stats['action'], action), extras

    def surprise(state, chunk, key):
        action = normalize.apply(state.stats['action'], chunk.action)
        return agent.surprise(state, chunk.replace(action=action), key)

    return agent._replace(init=init, update=update, act=act, surprise=_known(agent, surprise))


def ensemble(agent: types.Agent, num_members: int) -> types.Agent:
    """Several agents that begin differently and learn from the same batches; the first one acts.

    Every leaf of the state leads with E. extras['disagreement'] of `act` is [B], the variance of
    the members' actions, drawn with the same key, averaged over a chunk's numbers.

    Raises:
      ValueError: fewer than two members, or an agent with a memory.
    """
    if num_members < 2 or agent.memory is not types.no_memory:
        raise ValueError(
            f'an ensemble: expected at least 2 agents without memory, found {num_members}'
        )

    def init(key):
        return jax.vmap(agent.init)(jax.random.split(key, num_members))

    def update(state, batch, key):
        keys = jax.random.split(key, num_members)
        state, metrics = jax.vmap(agent.update, in_axes=(0, None, 0))(state, batch, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    def act(state, obs, key, deterministic=False):
        each = jax.vmap(lambda s: agent.act(s, obs, key, deterministic)[0])(state)
        spread = jnp.var(each, axis=0)
        return each[0], {'disagreement': spread.reshape(len(spread), -1).mean(-1)}

    def surprise(state, chunk, key):
        return agent.surprise(jax.tree.map(lambda x: x[0], state), chunk, key)

    return agent._replace(init=init, update=update, act=act, surprise=_known(agent, surprise))


def standardize_obs(agent: types.Agent, spec: PyTree, clip: float = 10.0) -> types.Agent:
    """The agent sees observations of zero mean and unit variance under running statistics.

    For rollouts (`Transition`). The statistics in `stats['obs']` are frozen while acting and
    updating, and take in a rollout only after the update that used it: the first ratio of a PPO
    update is therefore 1.
    """

    def init(key):
        state = agent.init(key)
        return state.replace(stats={**state.stats, 'obs': normalize.welford(spec)})

    def see(state, obs):
        return normalize.apply(normalize.affine(state.stats['obs']), obs, clip)

    def update(state, batch, key):
        seen = batch.replace(obs=see(state, batch.obs), next_obs=see(state, batch.next_obs))
        new_state, metrics = agent.update(state, seen, key)
        valid = batch.extras.get('valid', jnp.ones_like(batch.reward))
        stats = normalize.update(state.stats['obs'], batch.obs, valid)
        return new_state.replace(stats={**new_state.stats, 'obs': stats}), metrics

    def act(state, obs, key, deterministic=False):
        return agent.act(state, _see(lambda x: see(state, x), obs), key, deterministic)

    return agent._replace(init=init, update=update, act=act)


def standardize_replay(agent: types.Agent, spec: PyTree, clip: float = 10.0) -> types.Agent:
    """`standardize_obs` for agents that learn from replayed transitions.

    What is stored stays as it was; it is standardised when it is used, by the statistics of all
    experience so far, each step of which counts once, when it is new.
    """
    inner = standardize_obs(agent, spec, clip)

    def update(state, batch, key):
        stats = state.stats
        state, metrics = inner.update(state, batch, key)
        return state.replace(stats=stats), metrics

    def observe(state, rollout):
        valid = rollout.extras['valid']
        stats = normalize.update(state.stats['obs'], rollout.obs, valid)
        return state.replace(stats={**state.stats, 'obs': stats})

    return inner._replace(update=update, observe=observe)


def _known(agent: types.Agent, surprise: Callable) -> Callable:
    """The surprise of what surrounds an agent, if the agent has one."""
    return types.no_surprise if agent.surprise is types.no_surprise else surprise


def _see(change: Callable[[PyTree], PyTree], obs: PyTree) -> PyTree:
    """Changes an observation; what a recurrent agent remembers stays as it is."""
    if isinstance(obs, types.Remembered):
        return obs.replace(obs=change(obs.obs))
    return change(obs)
