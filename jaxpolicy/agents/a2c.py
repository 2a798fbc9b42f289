"""A2C: the synchronous advantage actor-critic, for many parallel environments.

From each rollout [T, N] of the current policy it takes one step down the gradient of

    L = -E[A log pi(a | s)] - e H[pi] + v/2 E[(V(s) - R)^2]
    R = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n}),   A = R - V(s), neither with a gradient,

where n reaches to the end of the rollout or of the episode: A is GAE with lambda 1. A smaller
`lambda_` makes A less noisy but biased. Where time ran out, R bootstraps from the value of the
observation that the last step truly led to; where the task ended, it does not. Steps that are
marked invalid (extras['valid'] = 0) do not count.

The rollout is used once, so it should be short: rollout_length is the paper's t_max, 5 to 32.

The optimiser is RMSProp, as in the paper. It has no momentum, which suits gradients that each come
from a different policy. Adam learns too, but more slowly on CartPole (learning rates 2e-3 and 3e-3,
5 to 8 seeds).

Known deviations from the paper: N environments step together, where the paper has threads that
each write to shared weights when they are done. The learning rate is constant. Actor and critic are
two networks; their gradients are clipped by one norm over both.

Source: Mnih et al., 2016 (arXiv:1602.01783), algorithm S3 and section 4.
"""

import dataclasses

import chex
import jax
import optax

from jaxpolicy import optimizers, ranges, train_state, types
from jaxpolicy.agents.parts import actor_critic
from jaxpolicy.ops import losses, returns

LEARNS_FROM = 'rollouts'  # of the current policy
ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config:
    actor_obs: tuple[str, ...] = ()  # keys of a dict observation that the actor sees; (): all
    critic_obs: tuple[str, ...] = ()  # the same for the critic, which only training needs
    hidden: ranges.Counts = (64, 64)  # of actor and critic
    activation: ranges.Activation = 'tanh'
    init_std: ranges.Positive = 0.6  # of the policy, where actions are continuous
    reward_scale: float = 1.0  # multiplies the rewards that the agent learns from
    gamma: ranges.Share = 0.99
    lambda_: ranges.Share = 1.0  # of GAE; 1: n-step returns, as in the paper
    entropy_cost: ranges.NonNegative = 0.01
    value_cost: ranges.NonNegative = 0.5
    learning_rate: ranges.Positive = 1e-3
    max_grad_norm: ranges.NonNegative = 0.5  # of actor and critic together; 0: no limit


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N].

    Raises:
      ValueError: an unknown activation or key of an observation.
    """
    nets = actor_critic.make(config, spec)
    tx = optax.rmsprop(config.learning_rate, decay=0.99, eps=1e-5)
    txs = {'actor': tx, 'critic': tx}

    def init(key):
        return train_state.create(nets.init(key), txs)

    def loss_fn(params, batch):
        dist = nets.distribution(params['actor'], batch.obs)
        value, next_value = (nets.value(params['critic'], x) for x in (batch.obs, batch.next_obs))
        return a2c_loss(config, dist, value, next_value, batch)

    def update(state, batch, key):
        del key
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, losses.silence(batch))
        grads, norm = optimizers.clip_by_global_norm(grads, config.max_grad_norm)
        state = train_state.apply_gradients(state, txs, grads)
        return state.replace(step=state.step + 1), metrics | {'grad_norm': norm}

    return types.Agent(init, update, nets.policy)


def a2c_loss(
    config: Config,
    dist: actor_critic.Distribution,
    value: jax.Array,
    next_value: jax.Array,
    batch: types.Transition,
) -> losses.Loss:
    """The whole objective L, for a rollout.

    Args:
      dist: the policy's distribution of actions, pi, at `batch.obs`.
      value: [T, N], V at `batch.obs`.
      next_value: [T, N], V at `batch.next_obs`.
      batch: the rollout, [T, N].
    """
    valid = batch.extras['valid']
    reward = config.reward_scale * batch.reward
    ends = (batch.termination.astype(reward.dtype), batch.truncation.astype(reward.dtype))
    old_value, next_value = jax.lax.stop_gradient((value, next_value))
    advantage = returns.gae(
        reward, old_value, next_value, *ends, config.gamma, config.lambda_, valid
    )
    policy_loss, metrics = losses.policy_gradient(dist.log_prob(batch.action), advantage, valid)
    value_loss, value_metrics = losses.value_mse(value, advantage + old_value, valid)
    entropy = losses.masked_mean(dist.entropy(), valid)
    loss = policy_loss + config.value_cost * value_loss - config.entropy_cost * entropy
    mean_value = losses.masked_mean(value, valid)
    metrics |= {'value_loss': value_loss, 'entropy': entropy, 'value': mean_value}
    return loss, metrics | value_metrics
