"""PPO whose actor and critic remember: each has a GRU or an LSTM of its own.

The objective, advantages and learning rate are those of `agents.ppo`; only the minibatches differ.
Each holds whole sequences: all T steps of some of the N environments. The networks run through
them again, from the memory that the policy had before the first step and with a new memory after a
step that ended an episode. So the first ratio is 1, as in `agents.ppo`. Gradients flow through the
T steps and stop at the stored memory.

The value of next_obs takes one more step of the cell from the memory after obs; the memory that
this step leads to is dropped. Where time cut an episode, this is the value of the observation that
it truly led to.

Sources: as `agents.ppo`; stored memories as in R2D2 (Kapturowski et al., 2019), section 3.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, ranges, train_state, types
from jaxpolicy.agents import ppo
from jaxpolicy.agents.parts import actor_critic
from jaxpolicy.nets import encoders, mlp, recurrent
from jaxpolicy.ops import distributions, losses

LEARNS_FROM = 'rollouts'  # of the current policy
ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    hidden: ranges.Counts = (128,)  # of the encoders of actor and critic
    cell: Literal['gru', 'lstm'] = 'gru'
    memory_size: ranges.Size = 128  # of each cell
    num_minibatches: ranges.Count = 4  # each has all steps of some environments


class Sequences(NamedTuple):
    """A minibatch: T steps of B environments."""

    steps: ppo.Minibatch  # leaves [T, B, ...]
    done: jax.Array  # [T, B] bool, the episode ended with this step
    memory: types.PyTree  # before the first step; leaves [1, B, H], so that B is axis 1 here too


class Network(NamedTuple):
    """Actor or critic as a network of observations; it returns (memory, [..., output_dim])."""

    view: types.PyTree  # the spec of what it sees
    net: recurrent.Recurrent

    def init(self, key: jax.Array) -> Any:
        x = jnp.zeros((1, 1, encoders.size(self.view)))
        return self.net.init(key, self.net.start(1), x, jnp.zeros((1, 1), bool))

    def step(self, params, memory, obs) -> Any:
        """One step; memory and observations may have any leading axes."""
        x = encoders.encode(obs, self.view)
        return self.net.apply(params, memory, x, method='step')

    def replay(self, params, memory, obs, done) -> Any:
        """T steps from the memory [N, H] before the first; returns the memory after each step."""
        return self.net.apply(params, memory, encoders.encode(obs, self.view), done)


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N] with their first carry and PPO's extras.

    Raises:
      ValueError: an unknown activation, cell or key of an observation, discrete actions; from
        `update`: the environments do not divide into the minibatches.
    """
    actor, critic = networks(config, spec)
    tx = optimizers.adam_with_rate(config.learning_rate)
    txs = {'actor': tx, 'critic': tx}

    def distribution(params, mean):
        return distributions.Gaussian(mean, jnp.broadcast_to(params['log_std'], mean.shape))

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        log_std = jnp.full(spec.action.shape, math.log(config.init_std), jnp.float32)
        params = {
            'actor': {'net': actor.init(actor_key), 'log_std': log_std},
            'critic': critic.init(critic_key),
        }
        return train_state.create(params, txs)

    def policy(state, deterministic=False):
        return policy_of(actor, critic, distribution, state.params, deterministic)

    def loss_fn(params, batch):
        first, obs = jax.tree.map(lambda x: x[0], batch.memory), batch.steps.obs
        _, mean = actor.replay(params['actor']['net'], first['actor'], obs, batch.done)
        _, value = critic.replay(params['critic'], first['critic'], obs, batch.done)
        return ppo.ppo_loss(config, distribution(params['actor'], mean), value[..., 0], batch.steps)

    def update(state, batch, key):
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        batch, done = losses.silence(batch), batch.termination | batch.truncation
        params, first = state.params['critic'], batch.carry['critic']
        memories, value = critic.replay(params, first, batch.obs, done)
        _, next_value = critic.step(params, memories, batch.next_obs)
        steps = ppo.prepare(config, batch, value[..., 0], next_value[..., 0])
        data = Sequences(steps, done, jax.tree.map(lambda x: x[None], batch.carry))
        num_envs = done.shape[1]
        size = ppo.minibatch_size(num_envs, config.num_minibatches, 'environments (num_envs)')

        def minibatch_step(state, index):
            minibatch = jax.tree.map(lambda x: x[:, index], data)
            return ppo.descend(config, txs, loss_fn, state, minibatch)

        return ppo.optimize(config, minibatch_step, state, num_envs, size, key)

    return types.Agent(init, update, policy)


def policy_of(actor: Network, critic: Network, distribution, params, deterministic) -> types.Policy:
    """The policy of these parameters, which carries the memories of both cells.

    The critic's cell runs along while the policy acts, so that an update can start from its memory.
    """

    def init(obs):
        num = jax.tree.leaves(obs)[0].shape[0]
        return {'actor': actor.net.start(num), 'critic': critic.net.start(num)}

    def act(carry, obs, key):
        actor_state, mean = actor.step(params['actor']['net'], carry['actor'], obs)
        critic_state, _ = critic.step(params['critic'], carry['critic'], obs)
        dist = distribution(params['actor'], mean)
        action = jnp.where(deterministic, dist.mode(), dist.sample(key))
        extras = {'log_prob': dist.log_prob(action), 'mean': dist.mean, 'log_std': dist.log_std}
        return {'actor': actor_state, 'critic': critic_state}, action, extras

    return types.Policy(init, act)


def networks(config: Config, spec: types.Spec) -> tuple[Network, Network]:
    """Builds actor and critic.

    Raises:
      ValueError: an unknown activation, cell or key of an observation, or discrete actions.
    """
    mlp.check_activation(config.activation)
    types.check_actions(spec, instead="'a2c'")
    if config.cell not in recurrent.CELLS:
        cells = sorted(recurrent.CELLS)
        raise ValueError(f'agent.cell: expected one of {cells}, found {config.cell!r}')
    views, action_dim = actor_critic.views(config, spec), spec.action.shape[0]
    fields = (config.hidden, config.cell, config.memory_size)
    actor = recurrent.Recurrent(*fields, action_dim, config.activation, output_scale=0.01)
    critic = recurrent.Recurrent(*fields, 1, config.activation)
    return Network(views['actor'], actor), Network(views['critic'], critic)
