"""Functions Agent -> Agent that surround a learning rule; their statistics are in `state.stats`.

A transform keeps every function of the agent that it surrounds, whatever kind of agent it is, or
it refuses that kind with a ValueError.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.ops import normalize

PyTree = Any


def noise_obs(agent: types.AnyAgent, std: float) -> types.AnyAgent:
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


def normalize_obs(agent: types.AnyAgent, affine: normalize.Affine) -> types.AnyAgent:
    """The agent sees observations through a fixed normaliser, kept in `stats['obs']`.

    Raises:
      ValueError: a ReplayAgent, which has statistics of its own for what it sees; from `init`:
        something normalises observations already.
    """
    _refuse('normalize_obs', agent, types.ReplayAgent)

    def see(state, obs):
        return normalize.apply(state.stats['obs'], obs)

    def init(key):
        return _add_stats(agent.init(key), 'obs', affine)

    def update(state, batch, key):
        seen = batch.replace(obs=see(state, batch.obs))
        if isinstance(batch, types.Transition):
            seen = seen.replace(next_obs=see(state, batch.next_obs))
        return agent.update(state, seen, key)

    def policy(state, deterministic=False):
        return _seeing(agent.policy(state, deterministic), lambda obs: see(state, obs))

    changed = agent._replace(init=init, update=update, policy=policy)
    if not isinstance(agent, types.ScoringAgent):
        return changed

    def surprise(state, chunk, key):
        return agent.surprise(state, chunk.replace(obs=see(state, chunk.obs)), key)

    return types.ScoringAgent(init, update, policy, surprise)


def normalize_action(agent: types.AnyAgent, affine: normalize.Affine) -> types.AnyAgent:
    """The agent learns and plans normalised actions; the normaliser is kept in `stats['action']`.

    Raises:
      ValueError: from `init`, something normalises actions already.
    """

    def inside(state, batch):
        return batch.replace(action=normalize.apply(state.stats['action'], batch.action))

    def init(key):
        return _add_stats(agent.init(key), 'action', affine)

    def update(state, batch, key):
        return agent.update(state, inside(state, batch), key)

    def policy(state, deterministic=False):
        inner = agent.policy(state, deterministic)

        def act(carry, obs, key):
            carry, action, extras = inner.act(carry, obs, key)
            return carry, normalize.invert(state.stats['action'], action), extras

        return types.Policy(inner.init, act)

    if isinstance(agent, types.ScoringAgent):
        surprise = lambda state, chunk, key: agent.surprise(state, inside(state, chunk), key)  # noqa: E731
        return types.ScoringAgent(init, update, policy, surprise)
    if isinstance(agent, types.ReplayAgent):
        observe = lambda state, rollout: agent.observe(state, inside(state, rollout))  # noqa: E731
        return types.ReplayAgent(init, update, policy, observe)
    return types.Agent(init, update, policy)


def ensemble(agent: types.AnyAgent, num_members: int) -> types.AnyAgent:
    """Several agents that begin differently and learn from the same batches; the first one acts.

    The first axis of every leaf of the state is E, the members. The policy's
    extras['disagreement'], [B], is the variance of the members' actions, which are drawn with the
    same key, averaged over the numbers of an action. If the members can score chunks, the first
    one does.

    Raises:
      ValueError: fewer than two members, or a ReplayAgent; from the policy: its members remember.
    """
    _refuse('ensemble', agent, types.ReplayAgent)
    if num_members < 2:
        raise ValueError(f'ensemble: expected at least 2 agents, found {num_members}')

    def init(key):
        return jax.vmap(agent.init)(jax.random.split(key, num_members))

    def update(state, batch, key):
        keys = jax.random.split(key, num_members)
        state, metrics = jax.vmap(agent.update, in_axes=(0, None, 0))(state, batch, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    def policy(state, deterministic=False):
        return _members_policy(agent, state, deterministic)

    changed = agent._replace(init=init, update=update, policy=policy)
    if not isinstance(agent, types.ScoringAgent):
        return changed

    def surprise(state, chunk, key):
        return agent.surprise(_first(state), chunk, key)

    return types.ScoringAgent(init, update, policy, surprise)


def standardize_obs(agent: types.AnyAgent, spec: PyTree, clip: float = 10.0) -> types.Agent:
    """The agent sees observations of zero mean and unit variance under running statistics.

    It is for agents that learn from rollouts (`Transition`). The statistics in `stats['obs']` stay
    the same while the agent acts and learns, and take in a rollout only after the `update` that
    used it. So the first ratio of PPO is 1.

    Raises:
      ValueError: an agent that does not learn from rollouts alone; from `init`: something
        normalises observations already; from `update`: a batch of chunks.
    """
    _refuse('standardize_obs', agent, (types.ScoringAgent, types.ReplayAgent))

    def init(key):
        return _add_stats(agent.init(key), 'obs', normalize.welford(spec))

    def see(state, obs):
        return normalize.apply(normalize.affine(state.stats['obs']), obs, clip)

    def update(state, batch, key):
        if not isinstance(batch, types.Transition):
            name = type(batch).__name__
            raise ValueError(f'standardize_obs: expected batches of Transitions, found a {name}')
        seen = batch.replace(obs=see(state, batch.obs), next_obs=see(state, batch.next_obs))
        new_state, metrics = agent.update(state, seen, key)
        valid = batch.extras.get('valid', jnp.ones_like(batch.reward))
        stats = normalize.update(state.stats['obs'], batch.obs, valid)
        return new_state.replace(stats={**new_state.stats, 'obs': stats}), metrics

    def policy(state, deterministic=False):
        return _seeing(agent.policy(state, deterministic), lambda obs: see(state, obs))

    return types.Agent(init, update, policy)


def standardize_replay(
    agent: types.AnyAgent, spec: PyTree, clip: float = 10.0
) -> types.ReplayAgent:
    """`standardize_obs` for agents that learn from replayed transitions.

    The buffer keeps observations as they were. They are standardised when they are used, with the
    statistics of all experience so far, in which each step counts once, when it is new.

    Raises:
      ValueError: as `standardize_obs`.
    """
    _refuse('standardize_replay', agent, (types.ScoringAgent, types.ReplayAgent))
    inner = standardize_obs(agent, spec, clip)

    def update(state, batch, key):
        stats = state.stats
        state, metrics = inner.update(state, batch, key)
        return state.replace(stats=stats), metrics

    def observe(state, rollout):
        valid = rollout.extras['valid']
        stats = normalize.update(state.stats['obs'], rollout.obs, valid)
        return state.replace(stats={**state.stats, 'obs': stats})

    return types.ReplayAgent(inner.init, update, inner.policy, observe)


def _refuse(who: str, agent: types.AnyAgent, kinds: type | tuple[type, ...]) -> None:
    if isinstance(agent, kinds):
        raise ValueError(f'{who}: cannot surround a {type(agent).__name__}')


def _add_stats(state, name: str, stats: PyTree):
    """The state with statistics that it did not have."""
    if name in state.stats:
        raise ValueError(f'stats[{name!r}]: something normalises {name} already')
    return state.replace(stats={**state.stats, name: stats})


def _seeing(policy: types.Policy, see: Callable[[PyTree], PyTree]) -> types.Policy:
    """The policy with `see` applied to all that it sees; its carry stays as it is."""
    return types.Policy(
        init=lambda obs: policy.init(see(obs)),
        act=lambda carry, obs, key: policy.act(carry, see(obs), key),
    )


def _members_policy(agent: types.AnyAgent, state, deterministic) -> types.Policy:
    """The policy of the first member of an ensemble, with the disagreement of all."""

    def init(obs):
        carry = agent.policy(_first(state), deterministic).init(obs)
        types.check_memoryless(carry, 'ensemble')
        return carry

    def act(carry, obs, key):
        def one(member):
            return agent.policy(member, deterministic).act(carry, obs, key)[1]

        each = jax.vmap(one)(state)
        spread = jnp.var(each, axis=0)
        return carry, each[0], {'disagreement': spread.reshape(len(spread), -1).mean(-1)}

    return types.Policy(init, act)


def _first(state):
    return jax.tree.map(lambda x: x[0], state)
