"""A wrapper whose episodes begin in a few states, as where first states are cached."""

import jax

from jaxpolicy.types import Env, EnvState, Key


def cached(env: Env, num_starts: int = 512, seed: int = 0) -> Env:
    """Every episode begins in one of `num_starts` states that are drawn once.

    It stands for libraries that reset an environment to the first state that it ever had, as brax's
    AutoResetWrapper does, with `num_starts` as the number of environments. There each environment
    keeps a start of its own; here each episode takes any of them. With episodes of one length all
    starts are met equally often either way. The draws of an episode other than its start are fresh.

    Args:
      env: unbatched. Name the wrapper in `config.loop.wrap`, so that evaluations have fresh starts.
      num_starts: how many different states.
      seed: they are drawn from.
    """

    def reset(key: Key) -> EnvState:
        key, start_key = jax.random.split(key)
        index = jax.random.randint(start_key, (), 0, num_starts)
        state = env.reset(jax.random.fold_in(jax.random.key(seed), index))
        return state.replace(key=key)

    return Env(reset, env.step, env.spec)
