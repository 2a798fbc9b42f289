"""What agents that learn from replayed transitions share.

Their batches are U minibatches of B transitions, leaves [U, B, ...]. The extras are valid (0 where
a simulation broke), discount (gamma^m of an m-step return) and, for prioritised samples, weight.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpolicy import ranges, train_state, types
from jaxpolicy.nets import mlp
from jaxpolicy.ops import losses

Step = Callable[[train_state.TrainState, types.Transition, types.Key], tuple[Any, types.Metrics]]


def adam(learning_rate: float, max_grad_norm: float = 0.0) -> optax.GradientTransformation:
    """Adam, with the gradient's norm clipped to `max_grad_norm` before it; 0: no limit."""
    if not max_grad_norm:
        return optax.adam(learning_rate)
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate))


def bootstrap(batch: types.Transition, next_value: jax.Array) -> jax.Array:
    """The targets r + gamma^m (1 - termination) V(next_obs), [B], through which no gradient flows.

    A truncated step bootstraps like any other.
    """
    going_on = batch.extras['discount'] * (1.0 - batch.termination)
    return jax.lax.stop_gradient(batch.reward + going_on * next_value)


def value_loss(values: jax.Array, target: jax.Array, batch: types.Transition) -> losses.Loss:
    """The squared errors of E critics [E, B] to one target [B], averaged over B, summed over E.

    Samples count by their weight. The metric td_error [B] is the critics' mean size of error.
    """
    valid = batch.extras['valid']
    weight = valid * batch.extras.get('weight', jnp.ones_like(valid))
    error = values - target
    square = jnp.sum(error**2 * weight, axis=1) / jnp.maximum(jnp.sum(valid), 1.0)
    metrics = {
        'critic_loss': jnp.mean(square),
        'value': losses.masked_mean(jnp.mean(values, axis=0), valid),
        'target': losses.masked_mean(target, valid),
        'td_error': jnp.mean(jnp.abs(error), axis=0) * valid,
    }
    return jnp.sum(square), metrics


def step_with_target(
    state: train_state.TrainState, txs: Mapping[str, Any], name: str, grads: Any, tau: float
) -> train_state.TrainState:
    """Takes a gradient step of a network, then moves its target towards the result by `tau`."""
    state = train_state.apply_gradients(state, txs, {name: grads})
    target = train_state.polyak(state.target_params[name], state.params[name], tau)
    return state.replace(target_params={**state.target_params, name: target})


def delayed(
    critic_step: Step,
    actor_step: Step,
    delay: int,
    state: train_state.TrainState,
    batch: types.Transition,
    key: types.Key,
) -> tuple[train_state.TrainState, types.Metrics]:
    """Learns from U minibatches: the critic steps on each of them, the actor on every `delay`-th.

    Invalid transitions become zeros first: 0 * NaN is NaN, so a mask alone is not enough.

    Returns:
      (state, metrics); td_error is [U, B], all others are averages.

    Raises:
      ValueError: U is no multiple of `delay`.
    """
    num = batch.reward.shape[0]
    if num % delay:
        raise ValueError(
            f'agent.actor_delay: expected a divisor of the {num} minibatches of an update '
            f'(loop.num_minibatches or loop.updates_per_round), found {delay}'
        )
    batch = losses.silence(batch)
    groups = jax.tree.map(lambda x: x.reshape(num // delay, delay, *x.shape[1:]), batch)

    def one(state, inputs):
        minibatch, key = inputs
        state, metrics = critic_step(state, minibatch, key)
        return state.replace(step=state.step + 1), metrics

    def group(state, inputs):
        minibatches, key = inputs
        actor_key, critic_key = jax.random.split(key)
        keys = jax.random.split(critic_key, delay)
        state, metrics = jax.lax.scan(one, state, (minibatches, keys))
        last = jax.tree.map(lambda x: x[-1], minibatches)
        state, actor_metrics = actor_step(state, last, actor_key)
        return state, (metrics, actor_metrics)

    keys = jax.random.split(key, num // delay)
    state, (metrics, actor_metrics) = jax.lax.scan(group, state, (groups, keys))
    td_error = metrics.pop('td_error').reshape(batch.reward.shape)
    means = jax.tree.map(jnp.mean, metrics | actor_metrics)
    return state, means | {'td_error': td_error}


def check(config: Any, spec: types.Spec, discrete: bool = False) -> None:
    """Raises a ValueError if a field that these agents share is wrong, or the kind of actions."""
    mlp.check_activation(config.activation)
    types.check_actions(spec, discrete, "'sac'" if discrete else "'dqn'")
    ranges.check(config, 'agent.')
