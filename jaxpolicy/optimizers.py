"""The optimisers that agents share, and functions for their learning rates and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def adamw_cosine(
    learning_rate: float,
    weight_decay: float,
    warmup_updates: int,
    decay_updates: int,
    max_grad_norm: float,
) -> optax.GradientTransformation:
    """AdamW with betas (0.95, 0.999), linear warm-up, cosine decay to 0, global-norm clipping.

    A `max_grad_norm` of 0 does not clip.

    `decay_updates` counts the updates of the warm-up too. If it is not more than `warmup_updates`,
    the learning rate stays constant after the warm-up.

    Source: Diffusion Policy (Chi et al., 2023), appendix on training hyper-parameters.
    """
    if decay_updates > warmup_updates:
        share = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_updates, decay_updates)
    else:
        share = optax.linear_schedule(0.0, 1.0, max(warmup_updates, 1))

    def schedule(count):  # optax compares a rate with 0, which one that is traced does not allow
        return learning_rate * share(count)

    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm) if max_grad_norm else optax.identity(),
        optax.adamw(schedule, b1=0.95, b2=0.999, weight_decay=weight_decay),
    )


def adam_with_rate(rate: float) -> optax.GradientTransformation:
    """Adam whose learning rate is part of its state, where `rate` and `set_rate` find it."""

    def build(learning_rate):
        return optax.adam(learning_rate)

    return optax.inject_hyperparams(build)(learning_rate=rate)


def rate(opt_state: dict[str, Any]) -> jax.Array:
    """The learning rate that all networks share; `opt_state` has a state for each network."""
    return next(iter(opt_state.values())).hyperparams['learning_rate']


def set_rate(opt_state: dict[str, Any], rate: jax.Array) -> dict[str, Any]:
    """Returns the optimisers' states by network, with the learning rate `rate` in each."""
    return {
        name: state._replace(hyperparams={**state.hyperparams, 'learning_rate': rate})
        for name, state in opt_state.items()
    }


def clip_by_global_norm(grads: Any, max_norm: float) -> tuple[Any, jax.Array]:
    """Scales all gradients by one factor, so that their joint norm is at most `max_norm`.

    A `max_norm` of 0 is no limit.

    Returns:
      (gradients, the norm that they had).
    """
    norm = optax.tree.norm(grads)
    limit = jnp.where(max_norm > 0.0, max_norm, jnp.inf)  # it may be traced
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * scale, grads), norm
