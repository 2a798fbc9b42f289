"""PPO whose actor and critic remember: each has a GRU or an LSTM of its own.

The objective, advantages and learning rate are those of `agents.ppo`; what differs is what a
minibatch is. It holds whole sequences: all T steps of some of the N environments, replayed from the
memory that the policy had before the first of them, with a new memory after a step that ended an
episode. Gradients flow through the T steps and stop at the stored memory. So the first ratio is 1,
as in `agents.ppo`.

The value of next_obs needs the memory after obs, and one more step of the cell that is not carried
on: where an episode was cut by time, that is the value of where it truly led.

Sources: as `agents.ppo`; stored memories as in R2D2 (Kapturowski et al., 2019), section 3.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, train_state, types
from jaxpolicy.agents import ppo
from jaxpolicy.nets import embed, recurrent
from jaxpolicy.ops import distributions

ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    hidden: tuple[int, ...] = (128,)  # of the encoders of actor and critic
    cell: str = 'gru'  # or 'lstm'
    memory_size: int = 128  # of each cell
    num_minibatches: int = 4  # each has all steps of num_envs / num_minibatches environments


class Sequences(NamedTuple):
    """A minibatch: T steps of B environments."""

    steps: ppo.Minibatch  # leaves [T, B, ...]
    done: jax.Array  # [T, B] bool, the episode ended with this step
    memory: types.PyTree  # before the first step; leaves [1, B, H], so that B is axis 1 here too


class Network(NamedTuple):
    """Actor or critic, on observations; its outputs are (memory, [..., output_dim])."""

    view: types.PyTree  # the spec of what it sees
    net: recurrent.Recurrent

    def init(self, key: jax.Array) -> Any:
        x = jnp.zeros((1, 1, embed.obs_dim(self.view)))
        return self.net.init(key, self.net.start(1), x, jnp.zeros((1, 1), bool))

    def step(self, params, memory, obs) -> Any:
        """One step; any leading axes."""
        x = embed.encode(obs, self.view)
        return self.net.apply(params, memory, x, method='step')

    def replay(self, params, memory, obs, done) -> Any:
        """T steps from the memory [N, H] before the first one; the memories after each of them."""
        return self.net.apply(params, memory, embed.encode(obs, self.view), done)


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N] with their first memory and PPO's extras.

    Raises:
      ValueError: an unknown activation, cell or key of an observation, discrete actions; from
        `update`: the environments do not divide into the minibatches.
    """
    actor, critic = networks(config, spec)
    tx = optimizers.adam_with_rate(config.learning_rate)
    txs = {'actor': tx, 'critic': tx}

    def policy(params, mean):
        return distributions.Gaussian(mean, jnp.broadcast_to(params['log_std'], mean.shape))

    def memory(obs):
        num = jax.tree.leaves(obs)[0].shape[0]
        return {'actor': actor.net.start(num), 'critic': critic.net.start(num)}

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        log_std = jnp.full(spec.action.shape, math.log(config.init_std), jnp.float32)
        params = {
            'actor': {'net': actor.init(actor_key), 'log_std': log_std},
            'critic': critic.init(critic_key),
        }
        return train_state.create(params, txs)

    def act(state, seen, key, deterministic=False):
        params, old = state.params, seen.memory
        actor_memory, mean = actor.step(params['actor']['net'], old['actor'], seen.obs)
        critic_memory, _ = critic.step(params['critic'], old['critic'], seen.obs)
        dist = policy(params['actor'], mean)
        action = jnp.where(deterministic, dist.mode(), dist.sample(key))
        extras = {'log_prob': dist.log_prob(action), 'mean': dist.mean, 'log_std': dist.log_std}
        return action, extras | {'memory': {'actor': actor_memory, 'critic': critic_memory}}

    def loss_fn(params, batch):
        first, obs = jax.tree.map(lambda x: x[0], batch.memory), batch.steps.obs
        _, mean = actor.replay(params['actor']['net'], first['actor'], obs, batch.done)
        _, value = critic.replay(params['critic'], first['critic'], obs, batch.done)
        return ppo.ppo_loss(config, policy(params['actor'], mean), value[..., 0], batch.steps)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        batch, done = ppo.silence(batch), batch.termination | batch.truncation
        params, first = state.params['critic'], batch.memory['critic']
        memories, value = critic.replay(params, first, batch.obs, done)
        _, next_value = critic.step(params, memories, batch.next_obs)
        steps = ppo.prepare(config, batch, value[..., 0], next_value[..., 0])
        data = Sequences(steps, done, jax.tree.map(lambda x: x[None], batch.memory))
        num_envs = done.shape[1]
        size = ppo.minibatch_size(num_envs, config.num_minibatches, 'environments (num_envs)')

        def minibatch_step(state, index):
            minibatch = jax.tree.map(lambda x: x[:, index], data)
            return ppo.descend(config, txs, loss_fn, state, minibatch)

        return ppo.optimize(config, minibatch_step, state, num_envs, size, key)

    return types.Agent(init, update, act, memory)


def networks(config: Config, spec: types.Spec) -> tuple[Network, Network]:
    """Actor and critic.

    Raises:
      ValueError: an unknown activation, cell or key of an observation, or discrete actions.
    """
    ppo.check_activation(config.activation)
    types.check_actions(spec)
    if config.cell not in recurrent.CELLS:
        cells = sorted(recurrent.CELLS)
        raise ValueError(f'agent.cell: expected one of {cells}, found {config.cell!r}')
    views, action_dim = ppo.views(config, spec), spec.action.shape[0]
    fields = (config.hidden, config.cell, config.memory_size)
    actor = recurrent.Recurrent(*fields, action_dim, config.activation, output_scale=0.01)
    critic = recurrent.Recurrent(*fields, 1, config.activation)
    return Network(views['actor'], actor), Network(views['critic'], critic)
