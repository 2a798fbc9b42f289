"""Regression of the chunk in one step or, as the minimal iterative policy (MIP), in two.

    one step    || f(0, 0, o) - a ||^2
    two steps   w || f(0, 0, o) - a ||^2 + || f(t* a + (1 - t*) z, t*, o) - a ||^2,  z ~ N(0, I)

    act         a_0 = f(0, 0, o), and with two steps a = f(t* a_0, t*, o)

with t* = 0.9 and w = ((1 - t*) / t*)^2: each error counts relative to how far its step goes, t* and
1 - t*, as in the authors' code. MIP fits no distribution: the second step only learns to mend
chunks that are close to the demonstration. Networks are told t as the level k = 100 (1 - t). Padded
steps do not count; EMA weights act.

Source: Pan et al., 2025 (Much Ado About Noising, arXiv:2512.01809), section 5, with an EMA;
the weights are those of github.com/simchowitzlabpublic/much-ado-about-noising, mip/losses.py, times
(1 - t*)^2. That code adds z to a instead of mixing them, and acts with f(a_0, t*, o), unlike the
paper and us.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives
from jaxpolicy.ops import losses

LEARNS_FROM = 'chunks'  # of demonstrations
# An agent that has learnt two steps can also act in one.
ACTING = ('action_horizon', 'act_weights', 'clip', 'num_sample_steps')


@dataclasses.dataclass(frozen=True)
class Config(chunks.Config):
    num_sample_steps: ranges.Count = 2  # 1: plain regression; 2: MIP
    t_star: ranges.Share = 0.9  # share of the action in the input of the second step
    clip: ranges.Positive = 1.0  # limit of the chunk, in normalised actions


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are `Chunk`s.

    Raises:
      ValueError: an unknown network, steps other than one or two, `t_star` out of range, or
        discrete actions.
    """
    chunks.check_actions(spec)
    if config.num_sample_steps not in (1, 2):
        raise ValueError(
            f'agent.num_sample_steps: expected 1 or 2, found {config.num_sample_steps}'
        )
    if not 0.0 < config.t_star < 1.0:
        raise ValueError(f'agent.t_star: expected 0 to 1, both excluded, found {config.t_star}')
    action_dim, t = spec.action.shape[0], config.t_star
    net = chunks.make(config, spec)
    txs = {'policy': chunks.optimizer(config)}

    def init(key):
        params = {'policy': net.init(key)}
        return train_state.create(params, txs, target_params=params)

    def predict(params, x, t, condition):
        k = jnp.full(x.shape[:1], objectives.K_MAX * (1.0 - t))
        return net.apply(params, x, k, condition)

    def loss_fn(params, batch, key):
        condition, action = net.see(batch.obs), batch.action
        first = predict(params, jnp.zeros_like(action), 0.0, condition)
        loss, metrics = losses.chunk_mse(first, action, batch.mask)
        if config.num_sample_steps == 1:
            return loss, metrics
        x = t * action + (1.0 - t) * jax.random.normal(key, action.shape)
        second, _ = losses.chunk_mse(predict(params, x, t, condition), action, batch.mask)
        loss = ((1.0 - t) / t) ** 2 * loss + second
        return loss, metrics | {'loss': loss, 'mse_second': second}

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params['policy'], batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'policy': grads}, config.ema_power)
        return state, metrics

    def policy(state, deterministic=False):
        del deterministic  # nothing is random

        def act(obs, key):
            del key
            params, condition = net.acting(state, 'policy'), net.see(obs)
            nothing = jnp.zeros((len(condition), config.pred_horizon, action_dim))
            chunk = predict(params, nothing, 0.0, condition)
            if config.num_sample_steps == 2:
                chunk = predict(params, t * chunk, t, condition)
            return jnp.clip(chunk, -config.clip, config.clip), {}

        return types.memoryless(act)

    return types.Agent(init, update, policy)


def num_evaluations(config: Config) -> int:
    """How often the network is called for one plan."""
    return config.num_sample_steps
