"""States of agents whose weights say something, made without compiling their `init`."""

import jax
import numpy as np


def random(shapes, std=0.3, seed=0):
    """Arrays of these shapes: floats are drawn, and anything else is zero."""
    rng = np.random.default_rng(seed)

    def draw(s):
        drawn = np.issubdtype(s.dtype, np.floating)
        return (rng.normal(0.0, std, s.shape) if drawn else np.zeros(s.shape)).astype(s.dtype)

    return jax.tree.map(draw, shapes)


def acting(agent, std=0.3, seed=0, **stats):
    """A train state that acts but cannot learn, as it has no state of an optimiser."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    params = random(state.params, std, seed)
    targets = {name: params[name] for name in state.target_params}
    return state.replace(
        step=np.zeros((), np.int32), params=params, target_params=targets, opt_state={}, stats=stats
    )
