"""FastTD3: TD3 for thousands of parallel environments.

It has the noisy target actions, delays and deterministic actor of TD3, and these additions:

  a distributional critic   Z_i(s, a), the probabilities of `num_atoms` returns between `min_value`
                            and `max_value`; its loss is the cross-entropy to the projected target
  the lesser of two         the target is the whole distribution of the critic with the lesser mean
  large batches             tens of thousands of transitions, and few updates for each env step
  noise of many sizes       each of the N robots explores with a standard deviation of its own; they
                            are evenly spread between `min_noise` and `max_noise`
  decoupled weight decay    the optimiser is AdamW

A running normaliser of observations belongs around it (normalize.obs = 'running').

    L_Q  = -E[sum_j p_j log Z_i(s, a)_j],  p = project(r + gamma^m (1 - termination) z, Z'(s', a'))
    L_mu = -E[min_i E[Z_i(s, mu(s))]]

The actor climbs the lesser of the two critics, as the authors' code does unless told otherwise
(`use_cdq`); with `actor_climbs` = 'mean' it climbs their mean. z are the returns, and a' is the
current actor's action at s' with clipped noise.

Known deviation: a robot keeps its standard deviation for good; the paper draws one per episode.

Sources: Seo et al., 2025 (arXiv:2505.22642), section 2; Bellemare et al., 2017 (arXiv:1707.06887),
algorithm 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, encoders, heads
from jaxpolicy.ops import distributions, losses

LEARNS_FROM = 'replay'  # of any policy's transitions
ACTING = ('min_noise', 'max_noise')


@dataclasses.dataclass(frozen=True)
class Config:
    actor_hidden: ranges.Counts = (512, 256, 128)
    critic_hidden: ranges.Counts = (1024, 512, 256)
    activation: ranges.Activation = 'relu'
    num_atoms: Annotated[int, ranges.Range(2, 1_000_000)] = 101  # returns with probabilities
    min_value: float = -10.0  # the least of these returns
    max_value: float = 10.0  # the largest of these returns
    gamma: ranges.Discount = 0.97
    tau: ranges.Part = 0.1  # of the targets
    learning_rate: ranges.Positive = 3e-4
    weight_decay: ranges.NonNegative = 0.1
    min_noise: ranges.NonNegative = 0.001  # standard deviations of exploration
    max_noise: ranges.NonNegative = 0.4
    policy_noise: ranges.NonNegative = 0.001  # standard deviation, on the target's actions
    noise_clip: ranges.NonNegative = 0.5  # limit of that noise
    actor_delay: ranges.Count = 2  # minibatches for each step of the actor
    actor_climbs: Literal['least', 'mean'] = 'least'  # of the two critics


class Networks(NamedTuple):
    """The networks as functions of their parameters."""

    policy: Callable[[Any, Any], jax.Array]  # params, obs -> mu [B, A]
    logits: Callable[[Any, Any, jax.Array], jax.Array]  # params, obs, action -> [2, B, atoms]


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are minibatches [U, B] of n-step transitions.

    Raises:
      ValueError: an unknown activation, discrete actions, or numbers out of range; from `update`:
        U is no multiple of `actor_delay`.
    """
    _validate(config, spec)
    action_dim = spec.action.shape[0]
    net = heads.TanhActor(config.actor_hidden, action_dim, config.activation)
    actor = encoders.Encoded(net, spec.obs)
    net = critics.Critics(2, config.critic_hidden, config.num_atoms, config.activation)
    critic = encoders.Encoded(net, spec.obs)
    tx = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    txs = {'actor': tx, 'critic': tx}

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = {
            'actor': actor.init(actor_key),
            'critic': critic.init(critic_key, spec.action),
        }
        return train_state.create(params, txs, target_params={'critic': params['critic']})

    def policy(state, deterministic=False):
        def act(obs, key):
            action = actor.apply(state.params['actor'], obs)
            std = jnp.linspace(config.min_noise, config.max_noise, len(action))[:, None]
            noisy = jnp.clip(action + std * jax.random.normal(key, action.shape), -1.0, 1.0)
            return jnp.where(deterministic, action, noisy), {}

        return types.memoryless(act)

    nets = Networks(actor.apply, critic.apply)
    learn_values = functools.partial(critic_step, config, nets, txs)
    learn_policy = functools.partial(actor_step, config, nets, txs)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(learn_values, learn_policy, config.actor_delay, state, batch, key)

    return types.Agent(init, update, policy)


def returns_of(config: Config) -> jax.Array:
    """The atoms z, evenly spaced returns [num_atoms]."""
    return jnp.linspace(config.min_value, config.max_value, config.num_atoms)


def critic_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_Q on a minibatch [B], and moves the target."""
    atoms = returns_of(config)
    noise = config.policy_noise * jax.random.normal(key, batch.action.shape)
    noise = jnp.clip(noise, -config.noise_clip, config.noise_clip)
    next_action = nets.policy(state.params['actor'], batch.next_obs) + noise
    next_action = jnp.clip(next_action, -1.0, 1.0)
    each = nets.logits(state.target_params['critic'], batch.next_obs, next_action)
    target = project(batch, lesser(jax.nn.softmax(each), atoms), atoms)

    def loss_fn(params):
        return cross_entropy(nets.logits(params, batch.obs, batch.action), target, atoms, batch)

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['critic'])
    return replay.step_with_target(state, txs, 'critic', grads, config.tau), metrics


def actor_step(config: Config, nets: Networks, txs, state, batch, key):
    """Takes a step down L_mu on a minibatch [B]."""
    del key

    def loss_fn(params):
        action = nets.policy(params, batch.obs)
        each = nets.logits(state.params['critic'], batch.obs, action)
        worth = jax.nn.softmax(each) @ returns_of(config)  # [2, B]
        worth = (
            jnp.min(worth, axis=0) if config.actor_climbs == 'least' else jnp.mean(worth, axis=0)
        )
        loss = -losses.masked_mean(worth, batch.extras['valid'])
        return loss, {'actor_loss': loss}

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['actor'])
    return train_state.apply_gradients(state, txs, {'actor': grads}), metrics


def lesser(probs: jax.Array, atoms: jax.Array) -> jax.Array:
    """The one of two distributions [2, B, atoms] with the lesser mean, row by row: [B, atoms]."""
    mean = probs @ atoms
    return jnp.where((mean[0] <= mean[1])[:, None], probs[0], probs[1])


def project(batch: types.Transition, probs: jax.Array, atoms: jax.Array) -> jax.Array:
    """The distribution of r + gamma^m (1 - termination) z on the atoms, without a gradient."""
    going_on = batch.extras['discount'] * (1.0 - batch.termination)
    returns = batch.reward[:, None] + going_on[:, None] * atoms
    return jax.lax.stop_gradient(distributions.project(returns, probs, atoms))


def cross_entropy(
    logits: jax.Array, target: jax.Array, atoms: jax.Array, batch: types.Transition
) -> losses.Loss:
    """-sum_j p_j log Z_j of two critics [2, B, atoms], averaged over B, summed over the critics."""
    valid = batch.extras['valid']
    weight = valid * batch.extras.get('weight', jnp.ones_like(valid))
    each = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)  # [2, B]
    entropy = jnp.sum(each * weight, axis=1) / jnp.maximum(jnp.sum(valid), 1.0)
    values, wanted = jax.nn.softmax(logits) @ atoms, target @ atoms  # [2, B], [B]
    return jnp.sum(entropy), {
        'critic_loss': jnp.mean(entropy),
        'value': losses.masked_mean(jnp.mean(values, axis=0), valid),
        'target': losses.masked_mean(wanted, valid),
        'td_error': jnp.mean(jnp.abs(values - wanted), axis=0) * valid,
    }


def _validate(config: Config, spec: types.Spec) -> None:
    replay.check(config, spec)
    if config.actor_climbs not in ('least', 'mean'):
        raise ValueError(
            f"agent.actor_climbs: expected 'least' or 'mean', found {config.actor_climbs!r}"
        )
    if config.num_atoms < 2 or config.min_value >= config.max_value:
        raise ValueError(
            'agent.num_atoms, agent.min_value, agent.max_value: expected at least 2 atoms on a '
            f'range, found {config.num_atoms} on [{config.min_value}, {config.max_value}]'
        )
