"""Twin delayed deep deterministic policy gradient.

The agent has two critics Q_i, a deterministic actor mu in (-1, 1)^A, and targets Q'_i, mu' of all:

    a'   = clip(mu'(s') + clip(noise, -c, c), -1, 1),  noise ~ N(0, policy_noise^2)
    y    = r + gamma^m (1 - termination) min_i Q'_i(s', a')
    L_Q  = E[(Q_i(s, a) - y)^2]                                         for each i
    L_mu = -E[Q_1(s, mu(s))]

`update` takes U minibatches [U, B]: critics learn from each, actor and all targets move after every
`actor_delay`-th. The targets' weights are moving averages of the updated networks'. The agent
explores with Gaussian noise.

With `bc_weight` > 0 this is TD3+BC, for data that the agent did not generate:

    L_mu = -lambda E[Q_1(s, mu(s))] + E[(mu(s) - a)^2],  lambda = 1 / (bc_weight E[|Q_1|]),

where bc_weight is the paper's 1 / alpha, which is 0.4 there.

Sources: Fujimoto et al., 2018 (arXiv:1802.09477), algorithm 1; Fujimoto and Gu, 2021
(arXiv:2106.06860), equations 3 to 5.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, encoders, heads
from jaxpolicy.ops import losses

LEARNS_FROM = 'replay'  # of any policy's transitions
ACTING = ('exploration_noise',)


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: ranges.Counts = (256, 256)  # of actor and critics
    activation: ranges.Activation = 'relu'
    layer_norm: bool = False  # in the critics
    gamma: ranges.Discount = 0.99
    tau: ranges.Part = 0.005  # of the targets
    learning_rate: ranges.Positive = 3e-4
    exploration_noise: ranges.NonNegative = 0.1  # standard deviation
    policy_noise: ranges.NonNegative = 0.2  # standard deviation, on the target's actions
    noise_clip: ranges.NonNegative = 0.5  # limit of that noise
    actor_delay: ranges.Count = 2  # minibatches for each step of actor and targets
    bc_weight: ranges.NonNegative = 0.0  # TD3+BC: weight of imitation; 0: none
    max_grad_norm: ranges.NonNegative = 0.0  # of each network; 0: no limit


class Networks(NamedTuple):
    """The networks as functions of their parameters."""

    policy: Callable[[Any, Any], jax.Array]  # params, obs -> mu [B, A]
    value: Callable[[Any, Any, jax.Array], jax.Array]  # params, obs, action -> Q [2, B]


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are minibatches [U, B] of n-step transitions.

    Raises:
      ValueError: an unknown activation, discrete actions, or numbers out of range; from `update`:
        U is no multiple of `actor_delay`.
    """
    replay.check(config, spec)
    action_dim = spec.action.shape[0]
    net = heads.TanhActor(config.hidden, action_dim, config.activation)
    actor = encoders.Encoded(net, spec.obs)
    net = critics.Critics(2, config.hidden, 1, config.activation, config.layer_norm)
    critic = encoders.Encoded(net, spec.obs)
    tx = replay.adam(config.learning_rate, config.max_grad_norm)
    txs = {'actor': tx, 'critic': tx}

    def value(params, obs, action):
        return critic.apply(params, obs, action)[..., 0]

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = {
            'actor': actor.init(actor_key),
            'critic': critic.init(critic_key, spec.action),
        }
        return train_state.create(params, txs, target_params=params)

    def policy(state, deterministic=False):
        def act(obs, key):
            action = actor.apply(state.params['actor'], obs)
            noise = config.exploration_noise * jax.random.normal(key, action.shape)
            return jnp.where(deterministic, action, jnp.clip(action + noise, -1.0, 1.0)), {}

        return types.memoryless(act)

    nets = Networks(actor.apply, value)
    learn_values = functools.partial(critic_step, config, nets, txs)
    learn_policy = functools.partial(actor_step, config, nets, txs)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(learn_values, learn_policy, config.actor_delay, state, batch, key)

    return types.Agent(init, update, policy)


def critic_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_Q on a minibatch [B]."""
    noise = config.policy_noise * jax.random.normal(key, batch.action.shape)
    noise = jnp.clip(noise, -config.noise_clip, config.noise_clip)
    next_action = nets.policy(state.target_params['actor'], batch.next_obs) + noise
    next_action = jnp.clip(next_action, -1.0, 1.0)
    each = nets.value(state.target_params['critic'], batch.next_obs, next_action)
    target = replay.bootstrap(batch, jnp.min(each, axis=0))

    def loss_fn(params):
        return replay.value_loss(nets.value(params, batch.obs, batch.action), target, batch)

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['critic'])
    return train_state.apply_gradients(state, txs, {'critic': grads}), metrics


def actor_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_mu on a minibatch [B], and moves all targets."""
    del key

    def loss_fn(params):
        action = nets.policy(params, batch.obs)
        worth = nets.value(state.params['critic'], batch.obs, action)[0]
        return actor_loss(config, worth, action, batch)

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['actor'])
    state = train_state.apply_gradients(state, txs, {'actor': grads})
    targets = train_state.polyak(state.target_params, state.params, config.tau)
    return state.replace(target_params=targets), metrics


def actor_loss(
    config: Config, worth: jax.Array, action: jax.Array, batch: types.Transition
) -> losses.Loss:
    """L_mu from `worth` = Q_1(s, mu(s)) [B] and `action` = mu(s) [B, A]."""
    valid = batch.extras['valid']
    value = losses.masked_mean(worth, valid)
    imitation = losses.masked_mean(jnp.mean((action - batch.action) ** 2, axis=-1), valid)
    loss = -value
    if config.bc_weight:
        size = jax.lax.stop_gradient(losses.masked_mean(jnp.abs(worth), valid))
        loss = -value / (config.bc_weight * jnp.maximum(size, 1e-6)) + imitation
    return loss, {'actor_loss': loss, 'imitation': imitation}
