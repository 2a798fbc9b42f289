"""Behavioural cloning by a linear map from the last observations to the next actions."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from jaxpolicy import train_state, types

LEARNS_FROM = 'chunks'
ACTING = ('action_horizon',)


@dataclasses.dataclass(frozen=True)
class Config:
    obs_horizon: int = 1
    pred_horizon: int = 4
    action_horizon: int = 2
    learning_rate: float = 0.1


def make(config: Config, spec: types.Spec) -> types.Agent:
    num_inputs, action_dim = config.obs_horizon * spec.obs.shape[0], spec.action.shape[0]
    txs = {'policy': optax.adam(config.learning_rate)}

    def init(key):
        kernel = 0.1 * jax.random.normal(key, (num_inputs, config.pred_horizon * action_dim))
        return train_state.create({'policy': {'kernel': kernel}}, txs)

    def predict(params, obs):
        flat = obs.reshape(len(obs), -1) @ params['kernel']
        return flat.reshape(-1, config.pred_horizon, action_dim)

    def loss_fn(params, batch):
        error = jnp.mean((predict(params, batch.obs) - batch.action) ** 2, axis=-1)
        loss = jnp.sum(error * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)
        return loss, {'mse': loss}

    def update(state, batch, key):
        del key
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['policy'], batch)
        state = train_state.apply_gradients(state, txs, {'policy': grads})
        return state.replace(step=state.step + 1), metrics

    def policy(state, deterministic=False):
        del deterministic
        return types.memoryless(lambda obs, key: (predict(state.params['policy'], obs), {}))

    return types.Agent(init, update, policy)
