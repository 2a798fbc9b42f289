"""The optimiser that the imitation agents share."""

import optax


def adamw_cosine(
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int,
    total_steps: int,
    max_grad_norm: float,
) -> optax.GradientTransformation:
    """AdamW with betas (0.95, 0.999), linear warm-up, cosine decay to 0, global-norm clipping.

    With total_steps <= warmup_steps the learning rate stays constant after the warm-up.

    Source: Diffusion Policy (Chi et al., 2023), appendix on training hyper-parameters.
    """
    if total_steps > warmup_steps:
        schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, total_steps)
    else:
        schedule = optax.linear_schedule(0.0, learning_rate, max(warmup_steps, 1))
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.adamw(schedule, b1=0.95, b2=0.999, weight_decay=weight_decay),
    )
