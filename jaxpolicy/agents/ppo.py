"""Proximal policy optimisation with a Gaussian policy, for many parallel environments.

From a rollout [T, N] of the current policy: advantages by GAE, once; normalised over the whole
batch; then several epochs of minibatches over

    L = -E[min(r A, clip(r, 1 - c, 1 + c) A)] - e H[pi] + v/2 E[(V - (A + V_old))^2].

The policy is a plain Gaussian with a state-independent standard deviation; environments clip
actions, so the log-probabilities are exact. The learning rate follows the KL divergence of each
minibatch and is part of the state. Steps marked invalid (extras['valid'] = 0) count nowhere.

Known deviations from the paper: no value clipping; the gradient norms of actor and critic are
clipped one by one.

Sources: Schulman et al., 2017 (arXiv:1707.06347); the adaptive learning rate of Rudin et al., 2022
(arXiv:2109.11978).
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxpolicy import train_state, types
from jaxpolicy.nets import embed, heads, mlp
from jaxpolicy.ops import distributions, losses, returns


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: tuple[int, ...] = (128, 128)  # of actor and critic
    activation: str = 'elu'
    init_std: float = 0.6  # of the policy
    gamma: float = 0.98
    lambda_: float = 0.95  # of GAE
    clip: float = 0.2
    entropy_cost: float = 1e-3
    value_cost: float = 1.0
    num_epochs: int = 4  # passes over each rollout
    num_minibatches: int = 8
    learning_rate: float = 1e-3  # the first one
    min_learning_rate: float = 1e-5
    max_learning_rate: float = 5e-3
    target_kl: float = 0.01  # 0: a constant learning rate
    max_grad_norm: float = 1.0


class Minibatch(NamedTuple):
    """What the losses need of each step; leaves [B, ...]."""

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
      ValueError: an unknown activation; from `update`: a rollout that has no whole minibatches.
    """
    _check_activation(config.activation)
    action_dim = spec.action.shape[0]
    actor = heads.GaussianActor(config.hidden, action_dim, config.activation, config.init_std)
    critic = mlp.MLP(config.hidden, 1, config.activation)
    txs = {'actor': _optimizer(config), 'critic': _optimizer(config)}

    def policy(params, obs):
        output: Any = actor.apply(params, embed.flatten_obs(obs, spec.obs))
        return distributions.Gaussian(*output)

    def value(params, obs):
        output: Any = critic.apply(params, embed.flatten_obs(obs, spec.obs))
        return output[..., 0]

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        obs = jnp.zeros((1, embed.obs_dim(spec.obs)))
        params = {'actor': actor.init(actor_key, obs), 'critic': critic.init(critic_key, obs)}
        return train_state.create(params, txs)

    def act(state, obs, key, deterministic=False):
        dist = policy(state.params['actor'], obs)
        action = dist.mode() if deterministic else dist.sample(key)
        extras = {'log_prob': dist.log_prob(action), 'mean': dist.mean, 'log_std': dist.log_std}
        return action, extras

    def loss_fn(params, batch):
        dist = policy(params['actor'], batch.obs)
        values = value(params['critic'], batch.obs)
        return ppo_loss(config, dist, values, batch)

    def minibatch_step(state, batch):
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, batch)
        state = train_state.apply_gradients(state, txs, grads)
        rate = adapt_learning_rate(config, _learning_rate(state), metrics['kl'])
        return _set_learning_rate(state, rate), metrics | {'learning_rate': rate}

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        values, next_values = (
            value(state.params['critic'], obs) for obs in (batch.obs, batch.next_obs)
        )
        data = prepare(config, batch, values, next_values)
        state, metrics = optimize(config, minibatch_step, state, data, key)
        first_ratio = metrics['ratio'][0, 0]
        metrics = jax.tree.map(jnp.mean, metrics)
        return state.replace(step=state.step + 1), metrics | {'first_ratio': first_ratio}

    return types.Agent(init, update, act)


def optimize(config: Config, minibatch_step, state, data: Minibatch, key: jax.Array):
    """Epochs over the whole rollout, each in a new order; metrics [epochs, minibatches]."""
    num_steps = data.valid.shape[0]
    size = minibatch_size(num_steps, config.num_minibatches)

    def step(state, index):
        return minibatch_step(state, jax.tree.map(lambda x: x[index], data))

    def epoch(state, epoch_key):
        index = jax.random.permutation(epoch_key, num_steps).reshape(-1, size)
        return jax.lax.scan(step, state, index)

    return jax.lax.scan(epoch, state, jax.random.split(key, config.num_epochs))


def prepare(
    config: Config, batch: types.Transition, value: jax.Array, next_value: jax.Array
) -> Minibatch:
    """Advantages and targets, once per rollout [T, N]; everything flattened to [T * N, ...].

    Advantages are normalised over the whole rollout, not minibatch by minibatch.
    """
    valid = batch.extras['valid']
    advantage = returns.gae(
        batch.reward,
        value,
        next_value,
        batch.termination.astype(jnp.float32),
        batch.truncation.astype(jnp.float32),
        config.gamma,
        config.lambda_,
        valid,
    )
    minibatch = Minibatch(
        obs=batch.obs,
        action=batch.action,
        log_prob=batch.extras['log_prob'],
        mean=batch.extras['mean'],
        log_std=batch.extras['log_std'],
        advantage=losses.masked_normalize(advantage, valid),
        target=advantage + value,
        valid=valid,
    )
    return jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:]), minibatch)


def minibatch_size(num_steps: int, num_minibatches: int) -> int:
    """Steps per minibatch.

    Raises:
      ValueError: a rollout does not divide into the minibatches.
    """
    if num_steps % num_minibatches:
        raise ValueError(
            f'agent.num_minibatches: expected a divisor of the {num_steps} steps of a rollout '
            f'(num_envs x rollout_length), found {num_minibatches}'
        )
    return num_steps // num_minibatches


def ppo_loss(
    config: Config, dist: distributions.Gaussian, value: jax.Array, batch: Minibatch
) -> losses.Loss:
    """The whole objective for one minibatch; `dist` and `value` are the network's, now."""
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
    """Divides the rate by 1.5 where KL > 2 target, multiplies it where KL < target / 2."""
    if config.target_kl == 0.0:
        return rate
    factor = jnp.where(
        kl > 2.0 * config.target_kl, 1 / 1.5, jnp.where(kl < 0.5 * config.target_kl, 1.5, 1.0)
    )
    return jnp.clip(rate * factor, config.min_learning_rate, config.max_learning_rate)


def _check_activation(name: str) -> None:
    if name not in mlp.ACTIVATIONS:
        raise ValueError(
            f'agent.activation: expected one of {sorted(mlp.ACTIVATIONS)}, found {name!r}'
        )


def _optimizer(config: Config) -> optax.GradientTransformation:
    """Adam behind a global-norm clip; its learning rate is part of its state."""

    def build(learning_rate):
        return optax.chain(
            optax.clip_by_global_norm(config.max_grad_norm), optax.adam(learning_rate)
        )

    return optax.inject_hyperparams(build)(learning_rate=config.learning_rate)


def _learning_rate(state: train_state.TrainState) -> jax.Array:
    return state.opt_state['actor'].hyperparams['learning_rate']


def _set_learning_rate(state: train_state.TrainState, rate: jax.Array) -> train_state.TrainState:
    opt_state = {
        name: s._replace(hyperparams={**s.hyperparams, 'learning_rate': rate})
        for name, s in state.opt_state.items()
    }
    return state.replace(opt_state=opt_state)
