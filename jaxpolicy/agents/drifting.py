"""Drifting: a one-step generator whose samples drift towards the data while it trains.

For an observation o, it draws G chunks x_i = f(z_i, o), z_i ~ N(0, I), where f adds the network's
output to z, so that samples differ from the first update on. Each sample is attracted by the
demonstrated chunk y+ and repelled by the other samples y-,

    V_i = sum_j w+_ij y+_j - sum_j w-_ij y-_j.

The weights come from the kernel exp(-|x - y| / temperature). They are normalised both over the
chunks that act on a sample and over the samples that a chunk acts on (see `drift`). At equilibrium
the samples are distributed as the data. The loss, in which no gradient flows through sg(.), is

    || f(z, o) - sg(f(z, o) + V) ||^2.

Distances are divided by their mean over the batch. V is computed for each of several temperatures,
divided by its root mean square and averaged over them; the average is multiplied by the mean
distance per coordinate. Networks are told the level k = 100, as their input is noise. Padded steps
count neither in distances nor in the loss; EMA weights act.

Source: Deng et al., 2026 (Generative Modeling via Drifting), algorithms 1 and 2 and appendix A;
for chunks of actions Gao et al., 2026 (Drift-Based Policy, arXiv:2604.03540).
"""

import dataclasses
from typing import Annotated

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives

LEARNS_FROM = 'chunks'  # of demonstrations
ACTING = ('action_horizon', 'act_weights', 'clip')
# Least product of the two normalised weights, as in the authors' code. Without it, samples that are
# close together feel one another alone, and hardly move towards data that is further away.
_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class Config(chunks.Config):
    num_samples: Annotated[int, ranges.Range(2, 1_000_000)] = 8  # G, chunks for an observation
    temperatures: ranges.Positives = (0.02, 0.05, 0.2)  # in units of the mean distance
    clip: ranges.Positive = 1.0  # limit of the chunk, in normalised actions


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are `Chunk`s.

    Raises:
      ValueError: an unknown network, fewer than two samples, temperatures that are not positive, or
        discrete actions.
    """
    chunks.check_actions(spec)
    if config.num_samples < 2:
        raise ValueError(f'agent.num_samples: expected at least 2, found {config.num_samples}')
    if not config.temperatures or min(config.temperatures) <= 0.0:
        raise ValueError(
            f'agent.temperatures: expected positive numbers, found {config.temperatures}'
        )
    action_dim, group = spec.action.shape[0], config.num_samples
    net = chunks.make(config, spec)
    txs = {'generator': chunks.optimizer(config)}

    def init(key):
        params = {'generator': net.init(key)}
        return train_state.create(params, txs, target_params=params)

    def generate(params, z, condition):
        return z + net.apply(params, z, jnp.full(z.shape[:1], objectives.K_MAX), condition)

    def loss_fn(params, batch, key):
        rows = len(batch.action)
        condition = jnp.repeat(net.see(batch.obs), group, axis=0)
        z = jax.random.normal(key, (rows * group, *batch.action.shape[1:]))
        mask = jnp.broadcast_to(batch.mask[..., None], batch.action.shape).reshape(rows, 1, -1)
        x = generate(params, z, condition).reshape(rows, group, -1) * mask
        action = batch.action.reshape(rows, 1, -1) * mask
        velocity = drift(jax.lax.stop_gradient(x), action, config.temperatures)
        error = (x - jax.lax.stop_gradient(x + velocity)) ** 2
        loss = jnp.sum(error) / jnp.maximum(jnp.sum(mask) * group, 1.0)
        mse = jnp.sum((jnp.mean(x, axis=1, keepdims=True) - action) ** 2)
        return loss, {'loss': loss, 'mse_of_mean': mse / jnp.maximum(jnp.sum(mask), 1.0)}

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['generator'], batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'generator': grads}, config.ema_power)
        return state, metrics

    def policy(state, deterministic=False):
        del deterministic  # both kinds of policy draw a sample

        def act(obs, key):
            condition = net.see(obs)
            z = jax.random.normal(key, (len(condition), config.pred_horizon, action_dim))
            chunk = generate(net.acting(state, 'generator'), z, condition)
            return jnp.clip(chunk, -config.clip, config.clip), {}

        return types.memoryless(act)

    return types.Agent(init, update, policy)


def num_evaluations(config: Config) -> int:
    """How often the network is called for one plan."""
    del config
    return 1


def drift(x: jax.Array, data: jax.Array, temperatures: tuple[float, ...]) -> jax.Array:
    """V for samples x [B, G, D] and data [B, P, D], averaged over temperatures: [B, G, D]."""
    group = x.shape[1]
    others = jnp.concatenate([data, x], axis=1)  # [B, P + G, D]
    distance = jnp.linalg.norm(x[:, :, None] - others[:, None] + 1e-8, axis=-1)  # [B, G, P + G]
    num_data = data.shape[1]
    itself = jnp.pad(jnp.eye(group, dtype=bool), ((0, 0), (num_data, 0)))
    scale = jnp.sum(jnp.where(itself, 0.0, distance)) / (itself.size - group) / len(x)
    total = jnp.zeros_like(x)
    for temperature in temperatures:
        logit = jnp.where(itself, -jnp.inf, -distance / (temperature * scale + 1e-8))
        # One normalisation is over the chunks that act on a sample, one over the samples.
        both = jax.nn.softmax(logit, axis=2) * jax.nn.softmax(logit, axis=1)
        weight = jnp.sqrt(jnp.maximum(both, _FLOOR))
        attract, repel = weight[..., :num_data], weight[..., num_data:]
        attract, repel = (
            attract * jnp.sum(repel, axis=-1, keepdims=True),
            repel * jnp.sum(attract, axis=-1, keepdims=True),
        )
        velocity = attract @ data - repel @ x
        total = total + velocity / jnp.sqrt(jnp.mean(velocity**2) + 1e-12)
    return total * scale / jnp.sqrt(x.shape[-1]) / len(temperatures)
