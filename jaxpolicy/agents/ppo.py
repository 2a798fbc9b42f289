"""Proximal policy optimisation with a Gaussian policy, for many parallel environments.

From a rollout [T, N] of the current policy it computes advantages A by GAE, once, and normalises
them over the whole rollout. Then it takes steps on minibatches, for several epochs, down

    L = -E[min(r A, clip(r, 1 - c, 1 + c) A)] - e H[pi] + v/2 E[(V - (A + V_old))^2]

with r = pi(a | s) / pi_old(a | s); the last term has A as it was before it was normalised.

The policy is a plain Gaussian with a state-independent standard deviation; environments clip
actions, so the log-probabilities are exact. The learning rate adapts to the KL divergence of each
minibatch and is part of the state. Steps that are marked invalid (extras['valid'] = 0) do not
count.

Actor and critic are two networks; either may see only a part of a dict observation. Their gradients
are clipped by one norm over both.

Known deviation from the paper's implementation: no value clipping.

Sources: Schulman et al., 2017 (arXiv:1707.06347); the adaptive learning rate of Rudin et al., 2022
(arXiv:2109.11978).
"""

import dataclasses
from typing import Annotated, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, ranges, train_state, types
from jaxpolicy.agents.parts import actor_critic
from jaxpolicy.ops import distributions, losses, returns

LEARNS_FROM = 'rollouts'  # of the current policy
ACTING = ()


_CONSTANT = ranges.Idle('target_kl', (0.0,))


@dataclasses.dataclass(frozen=True)
class Config:
    actor_obs: tuple[str, ...] = ()  # keys of a dict observation that the actor sees; (): all
    critic_obs: tuple[str, ...] = ()  # the same for the critic, which only training needs
    hidden: ranges.Counts = (128, 128)  # of actor and critic
    activation: ranges.Activation = 'elu'
    init_std: ranges.Positive = 0.6  # of the policy
    reward_scale: float = 1.0  # multiplies the rewards that the critic learns from
    gamma: ranges.Share = 0.98
    lambda_: ranges.Share = 0.95  # of GAE
    clip: ranges.Positive = 0.2
    entropy_cost: ranges.NonNegative = 1e-3
    value_cost: ranges.NonNegative = 1.0
    num_epochs: ranges.Count = 4  # passes over each rollout
    num_minibatches: ranges.Count = 8
    learning_rate: ranges.Positive = 1e-3  # at the start
    min_learning_rate: Annotated[ranges.Positive, _CONSTANT] = 1e-5
    max_learning_rate: Annotated[ranges.Positive, _CONSTANT] = 5e-3
    target_kl: ranges.NonNegative = 0.01  # 0: a constant learning rate
    max_grad_norm: ranges.NonNegative = 1.0  # of actor and critic together; 0: no limit


_STEPS = 'steps of a rollout (num_envs x rollout_length)'


class Minibatch(NamedTuple):
    """What the losses need to know of each step; leaves [B, ...]."""

    obs: types.PyTree
    action: jax.Array
    log_prob: jax.Array  # under the policy that acted
    mean: jax.Array  # of the policy that acted
    log_std: jax.Array
    advantage: jax.Array
    target: jax.Array  # lambda-returns
    valid: jax.Array


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N] with extras log_prob, mean and log_std.

    Raises:
      ValueError: an unknown activation or key of an observation, discrete actions; from `update`: a
        rollout that does not divide into the minibatches.
    """
    types.check_actions(spec, instead="'a2c'")
    nets = actor_critic.make(config, spec)
    txs = {name: optimizers.adam_with_rate(config.learning_rate) for name in ('actor', 'critic')}

    def init(key):
        return train_state.create(nets.init(key), txs)

    def loss_fn(params, batch):
        dist: Any = nets.distribution(params['actor'], batch.obs)  # a Gaussian
        values = nets.value(params['critic'], batch.obs)
        return ppo_loss(config, dist, values, batch)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        batch = losses.silence(batch)
        # One time step after the other: on a CPU, all at once is slower, as it leaves the cache.
        values, next_values = jax.lax.map(
            lambda both: tuple(nets.value(state.params['critic'], obs) for obs in both),
            (batch.obs, batch.next_obs),
        )
        data = prepare(config, batch, values, next_values)
        data = jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:]), data)  # [T * N, ...]
        size = minibatch_size(len(data.valid), config.num_minibatches, _STEPS)

        def minibatch_step(state, index):
            minibatch = jax.tree.map(lambda x: x[index], data)
            return descend(config, txs, loss_fn, state, minibatch)

        return optimize(config, minibatch_step, state, len(data.valid), size, key)

    return types.Agent(init, update, nets.policy)


def optimize(config: Config, minibatch_step, state, num_items: int, size: int, key: jax.Array):
    """Runs the epochs over a rollout, each in a new order: the work of one call of `Agent.update`.

    Args:
      minibatch_step: (state, index [size] into the items) -> (state, metrics).
      num_items: how many items there are to shuffle (steps, or sequences).
      size: items in a minibatch.

    Returns:
      (state, metrics averaged over all minibatches, and `first_ratio`: 'ratio' of the first one).
    """

    def epoch(state, epoch_key):
        index = jax.random.permutation(epoch_key, num_items).reshape(-1, size)
        return jax.lax.scan(minibatch_step, state, index)

    state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, config.num_epochs))
    first_ratio = metrics['ratio'][0, 0]
    metrics = jax.tree.map(jnp.mean, metrics)
    return state, metrics | {'first_ratio': first_ratio}


def descend(config: Config, txs, loss_fn, state, minibatch):
    """Takes a step down the gradient of `loss_fn(params, minibatch)`; adapts the learning rate.

    This counts as one update.
    """
    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, minibatch)
    grads, norm = optimizers.clip_by_global_norm(grads, config.max_grad_norm)
    state = train_state.apply_gradients(state, txs, grads)
    rate = adapt_learning_rate(config, optimizers.rate(state.opt_state), metrics['kl'])
    metrics |= {'learning_rate': rate, 'grad_norm': norm}
    opt_state = optimizers.set_rate(state.opt_state, rate)
    return state.replace(step=state.step + 1, opt_state=opt_state), metrics


def prepare(
    config: Config, batch: types.Transition, value: jax.Array, next_value: jax.Array
) -> Minibatch:
    """Computes what the losses need to know of a rollout, once; leaves [T, N, ...].

    Advantages are normalised over the whole rollout, not minibatch by minibatch.
    """
    valid = batch.extras['valid']
    advantage = returns.gae(
        config.reward_scale * batch.reward,
        value,
        next_value,
        batch.termination.astype(jnp.float32),
        batch.truncation.astype(jnp.float32),
        config.gamma,
        config.lambda_,
        valid,
    )
    return Minibatch(
        obs=batch.obs,
        action=batch.action,
        log_prob=batch.extras['log_prob'],
        mean=batch.extras['mean'],
        log_std=batch.extras['log_std'],
        advantage=losses.masked_normalize(advantage, valid),
        target=advantage + value,
        valid=valid,
    )


def minibatch_size(num_items: int, num_minibatches: int, items: str) -> int:
    """Items per minibatch; `items` says what they are.

    Raises:
      ValueError: a rollout does not divide into the minibatches.
    """
    if num_items % num_minibatches:
        raise ValueError(
            f'agent.num_minibatches: expected a divisor of the {num_items} {items}, '
            f'found {num_minibatches}'
        )
    return num_items // num_minibatches


def ppo_loss(
    config: Config, dist: distributions.Gaussian, value: jax.Array, batch: Minibatch
) -> losses.Loss:
    """The whole objective for one minibatch; `dist` and `value` are those of the networks now."""
    policy_loss, policy_metrics = losses.ppo_clip(
        dist.log_prob(batch.action), batch.log_prob, batch.advantage, config.clip, batch.valid
    )
    value_loss, value_metrics = losses.value_mse(value, batch.target, batch.valid)
    entropy = losses.masked_mean(dist.entropy(), batch.valid)
    kl = losses.masked_mean(distributions.Gaussian(batch.mean, batch.log_std).kl(dist), batch.valid)
    loss = policy_loss + config.value_cost * value_loss - config.entropy_cost * entropy
    metrics = {
        'policy_loss': policy_loss,
        'value_loss': value_loss,
        'entropy': entropy,
        'kl': kl,
        'std': jnp.mean(jnp.exp(dist.log_std)),
        'value': losses.masked_mean(value, batch.valid),
    }
    return loss, metrics | policy_metrics | value_metrics


def adapt_learning_rate(config: Config, rate: jax.Array, kl: jax.Array) -> jax.Array:
    """Divides the rate by 1.5 if KL > 2 target, multiplies it by 1.5 if KL < target / 2."""
    if config.target_kl == 0.0:
        return rate
    factor = jnp.where(
        kl > 2.0 * config.target_kl, 1 / 1.5, jnp.where(kl < 0.5 * config.target_kl, 1.5, 1.0)
    )
    return jnp.clip(rate * factor, config.min_learning_rate, config.max_learning_rate)
