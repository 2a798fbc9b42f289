"""Deep Q-learning for discrete actions: double, duelling, with n-step returns.

A network gives the values Q(s) of M actions; Q' is its target network:

    a* = argmax_a Q(s', a) with `double`, argmax_a Q'(s', a) without
    y  = r + gamma^m (1 - termination) Q'(s', a*)
    L  = E[w (Q(s, a) - y)^2]

w are the importance weights that the loop gives to prioritised samples; they are 1 otherwise. The
target's weights are a moving average of the updated network's. The agent explores: it takes a
random action with probability epsilon, which falls linearly over the first `epsilon_updates`
minibatches.

Known deviation: the squared error is kept and its gradient's norm is clipped, where the paper clips
the error.

Sources: Mnih et al., 2015; van Hasselt et al., 2016 (arXiv:1509.06461), equation 4; Wang et al.,
2016 (arXiv:1511.06581); Schaul et al., 2016 (arXiv:1511.05952); n-step returns as in Hessel et al.,
2018 (arXiv:1710.02298), section 2.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import critics, encoders

LEARNS_FROM = 'replay'  # of any policy's transitions
ACTING = ('final_epsilon',)


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: ranges.Counts = (128, 128)
    activation: ranges.Activation = 'relu'
    double: bool = True
    duelling: bool = True
    gamma: ranges.Discount = 0.99
    tau: ranges.Part = 0.01  # of the target
    learning_rate: ranges.Positive = 1e-3
    initial_epsilon: ranges.Share = 1.0
    final_epsilon: ranges.Share = 0.05
    epsilon_updates: ranges.Count = 2_000  # minibatches over which epsilon falls
    max_grad_norm: ranges.NonNegative = 10.0  # 0: no limit


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are minibatches [U, B] of n-step transitions.

    Raises:
      ValueError: an unknown activation, continuous actions, or numbers out of range.
    """
    replay.check(config, spec, discrete=True)
    num_actions = spec.action.shape[0]
    net = critics.ActionValues(config.hidden, num_actions, config.activation, config.duelling)
    critic = encoders.Encoded(net, spec.obs)
    txs = {'critic': replay.adam(config.learning_rate, config.max_grad_norm)}

    def init(key):
        params = {'critic': critic.init(key)}
        return train_state.create(params, txs, target_params=params)

    def policy(state, deterministic=False):
        def act(obs, key):
            which_key, action_key = jax.random.split(key)
            best = jnp.argmax(critic.apply(state.params['critic'], obs), axis=-1)  # [N]
            progress = jnp.minimum(state.step / config.epsilon_updates, 1.0)
            fall = config.initial_epsilon - config.final_epsilon
            epsilon = jnp.where(deterministic, 0.0, config.initial_epsilon - fall * progress)
            any_one = jax.random.randint(action_key, best.shape, 0, num_actions)
            explore = jax.random.bernoulli(which_key, epsilon, best.shape)
            return one_hot(jnp.where(explore, any_one, best), num_actions, spec), {}

        return types.memoryless(act)

    def step(state, batch, key):
        del key
        target_values = critic.apply(state.target_params['critic'], batch.next_obs)
        judge = target_values
        if config.double:
            judge = critic.apply(state.params['critic'], batch.next_obs)
        best = jnp.argmax(judge, axis=-1, keepdims=True)
        next_value = jnp.take_along_axis(target_values, best, axis=-1)[:, 0]
        target = replay.bootstrap(batch, next_value)

        def loss_fn(params):
            taken = jnp.sum(critic.apply(params, batch.obs) * batch.action, axis=-1)
            return replay.value_loss(taken[None], target, batch)

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['critic'])
        return replay.step_with_target(state, txs, 'critic', grads, config.tau), metrics

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        return replay.delayed(step, lambda state, *_: (state, {}), 1, state, batch, key)

    return types.Agent(init, update, policy)


def one_hot(index: jax.Array, num: int, spec: types.Spec) -> jax.Array:
    """Turns choices [N], 0 to M - 1, into one-hot actions [N, M]."""
    return jax.nn.one_hot(index, num, dtype=spec.action.dtype)
