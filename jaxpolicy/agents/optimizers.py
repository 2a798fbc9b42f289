"""The optimiser that the imitation agents share."""

from typing import NamedTuple

import optax


class Config(NamedTuple):
    """Numbers of `adamw_cosine`."""

    learning_rate: float
    weight_decay: float
    warmup_steps: int
    total_steps: int  # 0: a constant learning rate after the warm-up
    max_grad_norm: float


def adamw_cosine(config: Config) -> optax.GradientTransformation:
    """AdamW with betas (0.95, 0.999), linear warm-up, cosine decay to 0, global-norm clipping.

    Source: Diffusion Policy (Chi et al., 2023), appendix on training hyper-parameters.
    """
    rate, warmup, total = config.learning_rate, config.warmup_steps, config.total_steps
    if total > warmup:
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, total)
    else:
        schedule = optax.linear_schedule(0.0, rate, max(warmup, 1))
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(schedule, b1=0.95, b2=0.999, weight_decay=config.weight_decay),
    )
