"""The expert of the line: straight to the origin."""

import jax.numpy as jnp

from jaxpolicy.types import Policy


def make(config) -> Policy:
    def act(carry, obs, key):
        return carry, jnp.clip(-obs[:, :1] / config.speed, -1.0, 1.0), {}

    return Policy(init=lambda obs: (), act=act)
