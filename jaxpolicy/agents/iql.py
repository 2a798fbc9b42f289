"""Implicit Q-learning: values and a policy from data alone, asking for no action outside it.

Two critics Q_i, their targets Q'_i, a value V and a Gaussian policy pi:

    L_V  = E[|e - 1(u < 0)| u^2],  u = min_i Q'_i(s, a) - V(s),  e the expectile
    y    = r + gamma^m (1 - termination) V(s')
    L_Q  = E[(Q_i(s, a) - y)^2]                                            for each i
    L_pi = -E[min(exp(beta u), max_weight) log pi(a|s)]

With e = 0.5, V is the value of whoever acted in the data; towards 1, of the best of its actions.
beta = 0 is behaviour cloning.

`update` takes U minibatches [U, B]; V, critics, targets and policy learn from each, in this order.
Targets average the updated critics. pi has a mean inside (-1, 1), by a tanh, and a standard
deviation that is the same for all observations; its samples are clipped to [-1, 1].

Known deviations: the policy's learning rate does not decay; its deviation has a soft lower bound.

Source: Kostrikov et al., 2021 (arXiv:2110.06169), equations 5 to 7 and algorithm 1.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, embed, heads
from jaxpolicy.ops import distributions, losses

ACTING = ()
MIN_LOG_STD = -5.0  # of the policy: data of one action each would have it shrink for ever


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: tuple[int, ...] = (256, 256)  # of policy, value and critics
    activation: str = 'relu'
    layer_norm: bool = False  # in value and critics
    expectile: float = 0.7  # e
    beta: float = 3.0  # per unit of return
    max_weight: float = 100.0  # of an action in L_pi
    gamma: float = 0.99
    tau: float = 0.005  # of the targets
    learning_rate: float = 3e-4
    max_grad_norm: float = 0.0  # of each network; 0: no limit


class Networks(NamedTuple):
    """What the parameters mean."""

    policy: Callable[[Any, Any], distributions.Gaussian]  # params, obs -> pi
    value: Callable[[Any, Any], jax.Array]  # params, obs -> V [B]
    critic: Callable[[Any, Any, jax.Array], jax.Array]  # params, obs, action -> Q [2, B]


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are minibatches [U, B] of n-step transitions.

    Raises:
      ValueError: an unknown activation, discrete actions, or numbers out of range.
    """
    _validate(config, spec)
    action_dim = spec.action.shape[0]
    actor = heads.GaussianActor(config.hidden, action_dim, config.activation, 1.0)
    state_value = critics.Critic(config.hidden, 1, config.activation, config.layer_norm)
    critic = critics.Critics(2, config.hidden, 1, config.activation, config.layer_norm)
    tx = replay.adam(config.learning_rate, config.max_grad_norm)
    txs = {'actor': tx, 'value': tx, 'critic': tx}

    def policy(params, obs):
        output: Any = actor.apply(params, embed.encode(obs, spec.obs))
        mean, log_std = output
        log_std = MIN_LOG_STD + jax.nn.softplus(log_std - MIN_LOG_STD)
        return distributions.Gaussian(jnp.tanh(mean), log_std)

    def value_of(params, obs):
        output: Any = state_value.apply(params, embed.encode(obs, spec.obs))
        return output[..., 0]

    def critic_of(params, obs, action):
        output: Any = critic.apply(params, embed.encode(obs, spec.obs), action)
        return output[..., 0]

    def init(key):
        actor_key, value_key, critic_key = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, embed.obs_dim(spec.obs))), jnp.zeros((1, action_dim))
        params = {
            'actor': actor.init(actor_key, obs),
            'value': state_value.init(value_key, obs),
            'critic': critic.init(critic_key, obs, action),
        }
        return train_state.create(params, txs, target_params={'critic': params['critic']})

    def act(state, obs, key, deterministic=False):
        dist = policy(state.params['actor'], obs)
        sample = jnp.clip(dist.sample(key), -1.0, 1.0)
        return jnp.where(deterministic, dist.mode(), sample), {}

    nets = Networks(policy, value_of, critic_of)
    learn_values = functools.partial(values_step, config, nets, txs)
    learn_policy = functools.partial(actor_step, config, nets, txs)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(learn_values, learn_policy, 1, state, batch, key)

    return types.Agent(init, update, act)


def values_step(config: Config, nets: Networks, txs, state, batch, key):
    """A step down L_V on a minibatch [B], then down L_Q with the new V, and of the targets."""
    del key
    worth = worth_of(nets, state, batch)

    def value_loss(params):
        value, valid = nets.value(params, batch.obs), batch.extras['valid']
        return losses.expectile(value, worth, config.expectile, valid)

    grads, metrics = jax.grad(value_loss, has_aux=True)(state.params['value'])
    state = train_state.apply_gradients(state, txs, {'value': grads})
    target = replay.bootstrap(batch, nets.value(state.params['value'], batch.next_obs))

    def critic_loss(params):
        return replay.value_loss(nets.critic(params, batch.obs, batch.action), target, batch)

    grads, critic_metrics = jax.grad(critic_loss, has_aux=True)(state.params['critic'])
    state = replay.step_with_target(state, txs, 'critic', grads, config.tau)
    return state, metrics | critic_metrics


def actor_step(config: Config, nets: Networks, txs, state, batch, key):
    """A step down L_pi on a minibatch [B]."""
    del key
    advantage = worth_of(nets, state, batch) - nets.value(state.params['value'], batch.obs)

    def loss_fn(params):
        log_prob = nets.policy(params, batch.obs).log_prob(batch.action)
        return actor_loss(config, log_prob, advantage, batch.extras['valid'])

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['actor'])
    return train_state.apply_gradients(state, txs, {'actor': grads}), metrics


def actor_loss(
    config: Config, log_prob: jax.Array, advantage: jax.Array, valid: jax.Array
) -> losses.Loss:
    """L_pi, of log pi(a|s), u and what counts, [B] each."""
    # limited before exp, as exp of a wild advantage would be infinite
    exponent = jnp.minimum(config.beta * advantage, math.log(config.max_weight))
    weight = jax.lax.stop_gradient(jnp.exp(exponent))
    loss = -losses.masked_mean(weight * log_prob, valid)
    return loss, {
        'actor_loss': loss,
        'advantage_weight': losses.masked_mean(weight, valid),
        'log_prob': losses.masked_mean(log_prob, valid),
    }


def worth_of(nets: Networks, state: train_state.TrainState, batch: types.Transition) -> jax.Array:
    """min_i Q'_i(s, a) of the data's actions, [B]."""
    each = nets.critic(state.target_params['critic'], batch.obs, batch.action)
    return jnp.min(each, axis=0)


def _validate(config: Config, spec: types.Spec) -> None:
    replay.check(config, spec)
    if not 0.0 < config.expectile < 1.0:
        raise ValueError(f'agent.expectile: expected 0 to 1, found {config.expectile}')
    if config.beta < 0.0 or config.max_weight <= 0.0:
        raise ValueError(
            'agent.beta, agent.max_weight: expected at least 0 and more than 0, found '
            f'{config.beta} and {config.max_weight}'
        )
