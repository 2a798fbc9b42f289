"""Learning from a data set that lies on the device, where an epoch is one scan."""

import math

import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import windows


def num_updates(num_windows: int, batch_size: int) -> int:
    """Updates in one epoch; windows that do not fill a last batch are left out of this epoch.

    Raises:
      ValueError: there are fewer windows than one batch needs.
    """
    if num_windows < batch_size:
        raise ValueError(
            f'loop.batch_size: expected at most the {num_windows} windows of the data, '
            f'found {batch_size}'
        )
    return num_windows // batch_size


def make(agent: types.AnyAgent, batch_size: int, epochs_per_round: int = 1) -> types.Loop:
    """Makes a loop that learns from `windows.Windows`.

    The order of the data is drawn from the loop's key, so that a restored state continues exactly.

    Args:
      agent: takes `Chunk` batches.
      batch_size: B.
      epochs_per_round: passes over the data in one call of `step`, each in a new order.
    """

    def init(key):
        agent_key, loop_key = jax.random.split(key)
        return types.LoopState(train=agent.init(agent_key), env=(), key=loop_key)

    def epoch(train, epoch_key, data):
        num_windows = windows.num_windows(data)
        order_key, update_key = jax.random.split(epoch_key)
        count = num_updates(num_windows, batch_size)
        order = jax.random.permutation(order_key, num_windows)[: count * batch_size]

        def update(train, inputs):
            index, key = inputs
            return agent.update(train, windows.gather(data, index), key)

        keys = jax.random.split(update_key, count)
        return jax.lax.scan(update, train, (order.reshape(count, batch_size), keys))

    def step(state, data):
        key, epoch_key = jax.random.split(state.key)
        keys = jax.random.split(epoch_key, epochs_per_round)
        train, metrics = jax.lax.scan(lambda s, k: epoch(s, k, data), state.train, keys)
        done = train_state.progress(state.train.step, train.step, env_steps=0)
        return state.replace(train=train, key=key), jax.tree.map(jnp.mean, metrics) | done

    return types.Loop(init, step)


def replay(
    agent: types.AnyAgent, batch_size: int, updates_per_round: int, n_step: int, gamma: float
) -> types.Loop:
    """Makes a loop over a `Buffer` of demonstrations with rewards, for agents that learn values.

    Args:
      agent: takes minibatches [U, B] of n-step transitions.
      batch_size: B.
      updates_per_round: U, minibatches in one call of `step`.
      n_step: n, rewards in a return before it bootstraps.
      gamma: the agent's discount.
    """

    def init(key):
        agent_key, loop_key = jax.random.split(key)
        return types.LoopState(train=agent.init(agent_key), env=(), key=loop_key)

    def step(state, data):
        key, step_key = jax.random.split(state.key)

        def update(train, update_key):
            sample_key, learn_key = jax.random.split(update_key)
            shape = (group, batch_size)
            batch = buffer_lib.sample(data, sample_key, shape, n_step, gamma)
            train, metrics = agent.update(train, batch, learn_key)
            metrics.pop('td_error', None)
            return train, metrics

        # Some minibatches at a time, because all those of a long step would not fit in memory.
        group = math.gcd(updates_per_round, 20)
        keys = jax.random.split(step_key, updates_per_round // group)
        train, metrics = jax.lax.scan(update, state.train, keys)
        done = train_state.progress(state.train.step, train.step, env_steps=0)
        return state.replace(train=train, key=key), jax.tree.map(jnp.mean, metrics) | done

    return types.Loop(init, step)
