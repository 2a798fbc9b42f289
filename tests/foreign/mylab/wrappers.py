"""Env -> Env."""

from jaxpolicy.types import Env


def weaken(env: Env, factor: float = 0.5) -> Env:
    """Actions have only a part of their effect."""
    return Env(env.reset, lambda state, action: env.step(state, factor * action), env.spec)
