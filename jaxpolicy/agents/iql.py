"""Implicit Q-learning: values and a policy from data alone, without values of actions outside it.

The agent has two critics Q_i, their targets Q'_i, a value V and a Gaussian policy pi:

    L_V  = E[|e - 1(u < 0)| u^2],  u = min_i Q'_i(s, a) - V(s),  e the expectile
    y    = r + gamma^m (1 - termination) V(s')
    L_Q  = E[(Q_i(s, a) - y)^2]                                            for each i
    L_pi = -E[min(exp(beta u), max_weight) log pi(a|s)]

With e = 0.5, V is the value of the policy that acted in the data; as e goes to 1, V becomes that of
the best action in the data. With beta = 0, the policy is a behavioural clone.

`update` takes U minibatches [U, B]; V, critics, targets and policy learn from each, in this order.
The targets' weights are moving averages of the updated critics'. A tanh keeps the mean of pi inside
(-1, 1); its standard deviation is the same for all observations; its samples are clipped to
[-1, 1].

Known deviations: the policy's learning rate does not decay, and its standard deviation has a soft
lower bound.

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

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, encoders, heads
from jaxpolicy.ops import distributions, losses

LEARNS_FROM = 'replay'  # of any policy's transitions
ACTING = ()
MIN_LOG_STD = -5.0  # of the policy; without it, data with one action each would shrink it for ever


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: ranges.Counts = (256, 256)  # of policy, value and critics
    activation: ranges.Activation = 'relu'
    layer_norm: bool = False  # in value and critics
    expectile: ranges.Between = 0.7  # e
    beta: ranges.NonNegative = 3.0  # per unit of return
    max_weight: ranges.Positive = 100.0  # of an action in L_pi
    gamma: ranges.Discount = 0.99
    tau: ranges.Part = 0.005  # of the targets
    learning_rate: ranges.Positive = 3e-4
    max_grad_norm: ranges.NonNegative = 0.0  # of each network; 0: no limit


class Networks(NamedTuple):
    """The networks as functions of their parameters."""

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
    net = heads.GaussianActor(config.hidden, action_dim, config.activation, 1.0)
    actor = encoders.Encoded(net, spec.obs)
    net = critics.Critic(config.hidden, 1, config.activation, config.layer_norm)
    state_value = encoders.Encoded(net, spec.obs)
    net = critics.Critics(2, config.hidden, 1, config.activation, config.layer_norm)
    critic = encoders.Encoded(net, spec.obs)
    tx = replay.adam(config.learning_rate, config.max_grad_norm)
    txs = {'actor': tx, 'value': tx, 'critic': tx}

    def distribution(params, obs):
        mean, log_std = actor.apply(params, obs)
        log_std = MIN_LOG_STD + jax.nn.softplus(log_std - MIN_LOG_STD)
        return distributions.Gaussian(jnp.tanh(mean), log_std)

    def value_of(params, obs):
        return state_value.apply(params, obs)[..., 0]

    def critic_of(params, obs, action):
        return critic.apply(params, obs, action)[..., 0]

    def init(key):
        actor_key, value_key, critic_key = jax.random.split(key, 3)
        params = {
            'actor': actor.init(actor_key),
            'value': state_value.init(value_key),
            'critic': critic.init(critic_key, spec.action),
        }
        return train_state.create(params, txs, target_params={'critic': params['critic']})

    def policy(state, deterministic=False):
        def act(obs, key):
            dist = distribution(state.params['actor'], obs)
            sample = jnp.clip(dist.sample(key), -1.0, 1.0)
            return jnp.where(deterministic, dist.mode(), sample), {}

        return types.memoryless(act)

    nets = Networks(distribution, value_of, critic_of)
    learn_values = functools.partial(values_step, config, nets, txs)
    learn_policy = functools.partial(actor_step, config, nets, txs)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(learn_values, learn_policy, 1, state, batch, key)

    return types.Agent(init, update, policy)


def values_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_V on a minibatch [B], then down L_Q with the new V; moves the targets."""
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
    """Takes a step down L_pi on a minibatch [B]."""
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
    """L_pi from log pi(a|s), the advantage u and the mask of valid samples, [B] each."""
    # The exponent is limited, not its exp: that of a wild advantage would be infinite.
    exponent = jnp.minimum(config.beta * advantage, math.log(config.max_weight))
    weight = jax.lax.stop_gradient(jnp.exp(exponent))
    loss = -losses.masked_mean(weight * log_prob, valid)
    return loss, {
        'actor_loss': loss,
        'advantage_weight': losses.masked_mean(weight, valid),
        'log_prob': losses.masked_mean(log_prob, valid),
    }


def worth_of(nets: Networks, state: train_state.TrainState, batch: types.Transition) -> jax.Array:
    """min_i Q'_i(s, a) for the data's actions, [B]."""
    each = nets.critic(state.target_params['critic'], batch.obs, batch.action)
    return jnp.min(each, axis=0)


def _validate(config: Config, spec: types.Spec) -> None:
    replay.check(config, spec)
