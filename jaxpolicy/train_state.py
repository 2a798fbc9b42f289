"""One train state for every agent: arrays only.

It holds no optimiser, no apply function and no config, so that states can be averaged, stacked over
seeds, donated, sharded, and restored from the shapes of `jax.eval_shape(agent.init, key)`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

PyTree = Any


class TrainState(struct.PyTreeNode):
    """What learning changes. Each dict is keyed by the name of a network or of a statistic."""

    step: jax.Array  # [] int32, gradient updates of the network that has had the most
    params: dict[str, PyTree]
    opt_state: dict[str, PyTree]
    target_params: dict[str, PyTree]  # Polyak targets and EMA weights
    stats: dict[str, PyTree]  # normalisers; they travel with the weights


def create(
    params: dict[str, PyTree],
    txs: Mapping[str, optax.GradientTransformation],
    target_params: dict[str, PyTree] | None = None,
    stats: dict[str, PyTree] | None = None,
) -> TrainState:
    """Makes a state at step 0.

    Args:
      params: parameters by network name.
      txs: one optimiser for each network that is trained, keyed like `params`.
      target_params: initial targets; pass the parameters themselves for an EMA.
      stats: initial normalisers.

    Raises:
      ValueError: an optimiser names a network that does not exist.
    """
    if unknown := sorted(set(txs) - set(params)):
        raise ValueError(f'optimisers for unknown networks {unknown}; params has {sorted(params)}')
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={name: tx.init(params[name]) for name, tx in txs.items()},
        target_params=target_params or {},
        stats=stats or {},
    )


def apply_gradients(
    state: TrainState, txs: Mapping[str, optax.GradientTransformation], grads: Mapping[str, PyTree]
) -> TrainState:
    """Takes a gradient step of the networks named in `grads` only; leaves `state.step` alone."""
    params, opt_state = dict(state.params), dict(state.opt_state)
    for name, grad in grads.items():
        updates, opt_state[name] = txs[name].update(grad, opt_state[name], params[name])
        params[name] = optax.apply_updates(params[name], updates)
    return state.replace(params=params, opt_state=opt_state)


def apply_gradients_ema(
    state: TrainState,
    txs: Mapping[str, optax.GradientTransformation],
    grads: Mapping[str, PyTree],
    power: float,
) -> TrainState:
    """Makes a whole update: steps the networks, moves the EMA weights to them, adds 1 to `step`."""
    weight = 1.0 - ema_decay(state.step, power)
    state = apply_gradients(state, txs, grads)
    ema = {name: polyak(state.target_params[name], state.params[name], weight) for name in grads}
    return state.replace(step=state.step + 1, target_params={**state.target_params, **ema})


def weights(state: TrainState, name: str, which: str) -> PyTree:
    """The weights of a network that acts: their moving average ('ema') or the 'last' ones."""
    return (state.target_params if which == 'ema' else state.params)[name]


def polyak(target: PyTree, params: PyTree, tau: float | jax.Array) -> PyTree:
    """Returns (1 - tau) target + tau params. Pass the *updated* params."""
    return jax.tree.map(lambda t, p: t + tau * (p - t), target, params)


def ema_decay(step: jax.Array, power: float = 0.75, max_decay: float = 0.9999) -> jax.Array:
    """Returns the decay of an EMA that warms up: 1 - (1 + step)^-power, at most `max_decay`.

    `step` counts the updates before this one, so the first average is the first updated network.
    Source: Diffusion Policy (Chi et al., 2023), `EMAModel` with inv_gamma 1.
    """
    return jnp.minimum(1.0 - (1.0 + step.astype(jnp.float32)) ** -power, max_decay)


def progress(
    before: jax.Array, after: jax.Array, env_steps: jax.Array | int
) -> dict[str, jax.Array]:
    """What one call of a loop's `step` did: the metrics 'updates' and 'env_steps', int32 scalars.

    Loops add them after they have averaged all other metrics, as these two are counts.

    Args:
      before: `TrainState.step` before the call; an ensemble has [E] of them, all equal.
      after: `TrainState.step` after the call.
      env_steps: environment steps since the last call.

    Returns:
      updates, the gradient updates of the call, and env_steps.
    """
    updates = (jnp.asarray(after) - jnp.asarray(before)).reshape(-1)[0]
    return {
        'updates': updates.astype(jnp.int32),
        'env_steps': jnp.asarray(env_steps, jnp.int32),
    }
