"""Soft actor-critic; with demonstrations and many updates for each env step it is RLPD.

The agent has two or more critics Q_i, their targets Q'_i, a tanh-Gaussian policy pi and a
temperature alpha:

    y       = r + gamma^m (1 - termination) (min_i Q'_i(s', a') - alpha log pi(a'|s')),  a' ~ pi(s')
    L_Q     = E[(Q_i(s, a) - y)^2]                                            for each i
    L_pi    = E[alpha log pi(a|s) - min_i Q_i(s, a)],  a ~ pi(s)
    L_alpha = -E[log alpha (log pi(a|s) + H)],  H the target entropy, -A unless given

`update` takes U minibatches [U, B]; critics and targets learn from each, actor and temperature from
every `actor_delay`-th. The targets' weights are moving averages of the updated critics'.

For RLPD set `num_critics=10` and `num_target_critics=2`, so that two random critics make a target;
`mean_value=True`, so that the actor climbs the mean of all critics; `layer_norm=True`; U = 20 and
`actor_delay=20`. The loop fills half of each batch with demonstrations (`loop.demo_share`).

Known deviation: an action is a = tanh(u) with a Gaussian u. Critics see a, so that a demonstration
needs no u; log pi is computed from u, so that tanh is never inverted.

Sources: Haarnoja et al., 2018 (arXiv:1812.05905), equations 3, 7, 18; Ball et al., 2023
(arXiv:2302.02948), algorithm 1; Chen et al., 2021 (REDQ, arXiv:2101.05982).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, encoders, heads
from jaxpolicy.ops import distributions, losses

LEARNS_FROM = 'replay'  # of any policy's transitions
ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: ranges.Counts = (256, 256)  # of actor and critics
    activation: ranges.Activation = 'relu'
    layer_norm: bool = False  # in the critics
    num_critics: ranges.Few = 2
    num_target_critics: ranges.Few = 2  # random ones for each target, which the least makes
    mean_value: bool = False  # the actor climbs the mean of all critics, not the least
    entropy_backup: bool = True  # targets count the next action's entropy
    gamma: ranges.Discount = 0.99
    tau: ranges.Part = 0.005  # of the targets
    learning_rate: ranges.Positive = 3e-4
    init_temperature: ranges.Positive = 1.0
    target_entropy: float = 0.0  # nats; 0: minus the number of action dimensions
    actor_delay: ranges.Count = 1  # minibatches for one step of actor and temperature
    max_grad_norm: ranges.NonNegative = 0.0  # of each network; 0: no limit


class Networks(NamedTuple):
    """The networks as functions of their parameters."""

    policy: Callable[[Any, Any], distributions.TanhGaussian]  # params, obs -> pi
    value: Callable[[Any, Any, jax.Array], jax.Array]  # params, obs, action -> Q [E, B]


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are minibatches [U, B] of n-step transitions.

    Raises:
      ValueError: an unknown activation, discrete actions, or numbers out of range; from `update`:
        U is no multiple of `actor_delay`.
    """
    _validate(config, spec)
    action_dim = spec.action.shape[0]
    net = heads.TanhGaussianActor(config.hidden, action_dim, config.activation)
    actor = encoders.Encoded(net, spec.obs)
    net = critics.Critics(
        config.num_critics, config.hidden, 1, config.activation, config.layer_norm
    )
    critic = encoders.Encoded(net, spec.obs)
    tx = replay.adam(config.learning_rate, config.max_grad_norm)
    txs = {'actor': tx, 'critic': tx, 'temperature': optax.adam(config.learning_rate)}

    def distribution(params, obs):
        return distributions.TanhGaussian(*actor.apply(params, obs))

    def value(params, obs, action):
        return critic.apply(params, obs, action)[..., 0]

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = {
            'actor': actor.init(actor_key),
            'critic': critic.init(critic_key, spec.action),
            'temperature': {'log': jnp.log(jnp.asarray(config.init_temperature, jnp.float32))},
        }
        return train_state.create(params, txs, target_params={'critic': params['critic']})

    def policy(state, deterministic=False):
        def act(obs, key):
            dist = distribution(state.params['actor'], obs)
            return jnp.where(deterministic, dist.mode(), dist.sample(key)), {}

        return types.memoryless(act)

    nets = Networks(distribution, value)
    learn_values = functools.partial(critic_step, config, nets, txs)
    learn_policy = functools.partial(actor_step, config, nets, txs)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(learn_values, learn_policy, config.actor_delay, state, batch, key)

    return types.Agent(init, update, policy)


def critic_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_Q on a minibatch [B], and moves the targets."""
    next_key, subset_key = jax.random.split(key)
    dist = nets.policy(state.params['actor'], batch.next_obs)
    next_action, log_prob = dist.sample_log_prob(next_key)
    each = nets.value(state.target_params['critic'], batch.next_obs, next_action)
    next_value = least_of(each, subset_key, config.num_target_critics)
    if config.entropy_backup:
        next_value -= jnp.exp(state.params['temperature']['log']) * log_prob
    target = replay.bootstrap(batch, next_value)

    def loss_fn(params):
        return replay.value_loss(nets.value(params, batch.obs, batch.action), target, batch)

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['critic'])
    return replay.step_with_target(state, txs, 'critic', grads, config.tau), metrics


def actor_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_pi and L_alpha on a minibatch [B]."""
    valid = batch.extras['valid']
    target_entropy = config.target_entropy or -float(batch.action.shape[-1])
    temperature = jnp.exp(state.params['temperature']['log'])

    def loss_fn(params):
        action, log_prob = nets.policy(params['actor'], batch.obs).sample_log_prob(key)
        each = nets.value(state.params['critic'], batch.obs, action)
        worth = jnp.mean(each, axis=0) if config.mean_value else jnp.min(each, axis=0)
        actor_loss = losses.masked_mean(temperature * log_prob - worth, valid)
        entropy = -jax.lax.stop_gradient(losses.masked_mean(log_prob, valid))
        temperature_loss = params['temperature']['log'] * (entropy - target_entropy)
        metrics = {'actor_loss': actor_loss, 'entropy': entropy, 'temperature': temperature}
        return actor_loss + temperature_loss, metrics

    learnt = {name: state.params[name] for name in ('actor', 'temperature')}
    grads, metrics = jax.grad(loss_fn, has_aux=True)(learnt)
    return train_state.apply_gradients(state, txs, grads), metrics


def least_of(each: jax.Array, key: types.Key, num: int) -> jax.Array:
    """The least value [B] of `num` random critics in `each` [E, B]; all rows share the draw."""
    if num < len(each):
        each = jax.random.permutation(key, each, axis=0)[:num]
    return jnp.min(each, axis=0)


def _validate(config: Config, spec: types.Spec) -> None:
    replay.check(config, spec)
    if not 1 <= config.num_target_critics <= config.num_critics:
        raise ValueError(
            f'agent.num_target_critics: expected 1 to agent.num_critics ({config.num_critics}), '
            f'found {config.num_target_critics}'
        )
