"""PPO with choices that other libraries make differently, to measure what each of them is worth.

The defaults are those of `jaxpolicy.agents.ppo` behind the normaliser of `config.normalize.obs =
'running'`, and then every number is the same as there. Recipes set `config.normalize.obs = 'none'`,
as the normaliser is a part of this agent.

time_limits   'bootstrap': a truncated step counts the value of the observation that it led to.
              'terminate': the time limit counts as a termination, with nothing beyond it.
statistics    'after': the normaliser takes in a rollout after it was learnt from.
              'before': it takes it in first, so that the policy that learns does not see what the
              policy that acted saw, and the first ratio is not 1 (as in brax).
              'first_before': it takes in the very first rollout before it is learnt from, and the
              others afterwards.
advantages    'rollout': they are normalised over the whole rollout.
              'minibatch': they are normalised in each minibatch (as in Stable-Baselines3, CleanRL
              and brax).

`starts.cached` is the fourth choice.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, types
from jaxpolicy.agents import ppo, transforms
from jaxpolicy.agents.parts import actor_critic
from jaxpolicy.ops import losses, normalize

LEARNS_FROM = 'rollouts'
ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    time_limits: Literal['bootstrap', 'terminate'] = 'bootstrap'
    statistics: Literal['after', 'before', 'first_before'] = 'after'
    advantages: Literal['rollout', 'minibatch'] = 'rollout'


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N].

    Raises:
      ValueError: as `ppo.make`.
    """
    agent = ppo.make(config, spec)
    if config.advantages == 'minibatch':
        agent = _normalizing_minibatches(config, spec, agent)
    if config.time_limits == 'terminate':
        agent = _terminating(agent)
    standardized = transforms.standardize_obs(agent, spec.obs)
    if config.statistics == 'after':
        return standardized
    return _taking_in_first(standardized, always=config.statistics == 'before')


def _normalizing_minibatches(config: Config, spec: types.Spec, agent: types.Agent) -> types.Agent:
    """The agent with another `update`, whose advantages are normalised in each minibatch."""
    nets = actor_critic.make(config, spec)
    txs = {name: optimizers.adam_with_rate(config.learning_rate) for name in ('actor', 'critic')}

    def loss_fn(params, batch):
        dist: Any = nets.distribution(params['actor'], batch.obs)
        return ppo.ppo_loss(config, dist, nets.value(params['critic'], batch.obs), batch)

    def update(state, batch, key):
        batch = losses.silence(batch)
        value, next_value = (
            nets.value(state.params['critic'], obs) for obs in (batch.obs, batch.next_obs)
        )
        data = ppo.prepare(config, batch, value, next_value)
        data = data._replace(advantage=data.target - value)  # as before it was normalised
        data = jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:]), data)
        size = ppo.minibatch_size(len(data.valid), config.num_minibatches, 'steps of a rollout')

        def minibatch_step(state, index):
            one = jax.tree.map(lambda x: x[index], data)
            one = one._replace(advantage=losses.masked_normalize(one.advantage, one.valid))
            return ppo.descend(config, txs, loss_fn, state, one)

        return ppo.optimize(config, minibatch_step, state, len(data.valid), size, key)

    return agent._replace(update=update)


def _terminating(agent: types.Agent) -> types.Agent:
    """The agent for which a truncation is a termination."""

    def update(state, batch, key):
        ended = batch.termination | batch.truncation
        batch = batch.replace(termination=ended, truncation=jnp.zeros_like(ended))
        return agent.update(state, batch, key)

    return agent._replace(update=update)


def _taking_in_first(agent: types.Agent, always: bool) -> types.Agent:
    """The agent of `transforms.standardize_obs`, which takes in rollouts before learning from them.

    Args:
      always: every rollout; else only the first one, before which there are no statistics.
    """

    def update(state, batch, key):
        old = state.stats['obs']
        new = normalize.update(old, batch.obs, batch.extras['valid'])
        early = always | (old.count == 0)
        seen = jax.tree.map(lambda x, y: jnp.where(early, x, y), new, old)
        state, metrics = agent.update(state.replace(stats={'obs': seen}), batch, key)
        return state.replace(stats={'obs': new}), metrics  # it would take some in twice

    return agent._replace(update=update)
