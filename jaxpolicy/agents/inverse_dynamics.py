"""Inverse dynamics: which action led from one observation to the next, for BCO.

From its own experience, whatever policy made it, the agent minimises

    mse       |a - f(s, s')|^2
    gaussian  -log N(a; mu(s, s'), sigma(s, s'))

Then f or mu labels the steps of demonstrations that have no actions, and behavioural cloning of
those is BCO(0). BCO(alpha) repeats both, with the experience of the policy that was cloned.

The network sees s and s' - s, each standardised by the statistics of the experience (`observe`):
from step to step s' differs little from s, and it is the difference that tells the action.

Its policy takes the pair (obs, next_obs) as its observation. So it cannot act for a robot, and
`registry` has no name for it.

Source: Torabi et al., 2018 (BCO, arXiv:1805.01954), section 4.
"""

import dataclasses
from typing import Annotated, Literal

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import replay
from jaxpolicy.nets import encoders, mlp
from jaxpolicy.ops import distributions, losses, normalize

HEADS = ('mse', 'gaussian')


_NO_STD = ranges.Idle('head', ('mse',))


@dataclasses.dataclass(frozen=True)
class Config:
    head: Literal['mse', 'gaussian'] = 'mse'
    hidden: ranges.Counts = (256, 256)
    activation: ranges.Activation = 'swish'
    min_std: Annotated[ranges.Positive, _NO_STD] = 0.01  # of the gaussian head
    learning_rate: ranges.Positive = 1e-3
    clip: ranges.Positive = 10.0  # limit of the network's inputs, in standard deviations


def make(config: Config, spec: types.Spec) -> types.ReplayAgent:
    """Builds the agent; its batches are minibatches [U, B] of transitions, as for replay agents.

    Raises:
      ValueError: an unknown head or activation, or discrete actions.
    """
    _validate(config, spec)
    action_dim, num_inputs = spec.action.shape[0], 2 * encoders.size(spec.obs)
    outputs = action_dim * (2 if config.head == 'gaussian' else 1)
    net = mlp.MLP(config.hidden, outputs, config.activation, output_scale=0.01)
    txs = {'inverse': replay.adam(config.learning_rate)}
    inputs_spec = jax.ShapeDtypeStruct((num_inputs,), jnp.float32)

    def init(key):
        params = {'inverse': net.init(key, jnp.zeros((1, num_inputs)))}
        stats = {'inputs': normalize.welford(inputs_spec)}
        return train_state.create(params, txs, stats=stats)

    def output(params, stats, obs, next_obs):
        affine = normalize.affine(stats['inputs'], epsilon=1e-8)
        seen = normalize.apply(affine, _inputs(spec, obs, next_obs), config.clip)
        return jnp.split(jnp.asarray(net.apply(params, seen)), outputs // action_dim, axis=-1)

    def loss_fn(params, stats, batch):
        mean, *raw = output(params, stats, batch.obs, batch.next_obs)
        valid = batch.extras['valid']
        mse = losses.masked_mean(jnp.mean((mean - batch.action) ** 2, axis=-1), valid)
        if not raw:
            return mse, {'mse': mse}
        nll = -losses.masked_mean(_gaussian(config, mean, raw[0]).log_prob(batch.action), valid)
        return nll, {'mse': mse, 'nll': nll}

    def update(state, batch, key):
        del key  # nothing is random
        chex.assert_equal_shape_prefix([batch.action, batch.extras['valid']], 2)

        def one(state, minibatch):
            params = state.params['inverse']
            grads, metrics = jax.grad(loss_fn, has_aux=True)(params, state.stats, minibatch)
            state = train_state.apply_gradients(state, txs, {'inverse': grads})
            return state.replace(step=state.step + 1), metrics

        state, metrics = jax.lax.scan(one, state, losses.silence(batch))
        return state, jax.tree.map(jnp.mean, metrics)

    def policy(state, deterministic=False):
        def act(obs, key):
            mean, *raw = output(state.params['inverse'], state.stats, *obs)
            if not raw:
                return mean, {}
            return jnp.where(deterministic, mean, _gaussian(config, mean, raw[0]).sample(key)), {}

        return types.memoryless(act)

    def observe(state, rollout):
        seen = _inputs(spec, rollout.obs, rollout.next_obs)
        stats = normalize.update(state.stats['inputs'], seen, rollout.extras['valid'])
        return state.replace(stats={**state.stats, 'inputs': stats})

    return types.ReplayAgent(init, update, policy, observe)


def _inputs(spec: types.Spec, obs: types.PyTree, next_obs: types.PyTree) -> jax.Array:
    """Where a step began and how far it went, [..., 2 D]."""
    here, there = encoders.encode(obs, spec.obs), encoders.encode(next_obs, spec.obs)
    return jnp.concatenate([here, there - here], axis=-1)


def _gaussian(config: Config, mean: jax.Array, raw: jax.Array) -> distributions.Gaussian:
    return distributions.Gaussian(mean, jnp.log(jax.nn.softplus(raw) + config.min_std))


def _validate(config: Config, spec: types.Spec) -> None:
    if config.head not in HEADS:
        raise ValueError(f'agent.head: expected one of {HEADS}, found {config.head!r}')
    mlp.check_activation(config.activation)
    types.check_actions(spec)
