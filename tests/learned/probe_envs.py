"""Environments whose values are known, of one number seen and one number done.

They follow the idea of probe environments (A. Jones, "Debugging RL, without the agonizing pain",
2021): each isolates one thing that can be wrong. Which one it is, is data of the compiled program,
so that one program of an agent serves them all.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.types import Env, EnvState, Spec

GAMMA = 0.9
LIMIT = 10  # steps; only the probe `for_ever` lasts as long
SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
DISCRETE = Spec(SPEC.obs, jax.ShapeDtypeStruct((2,), jnp.int8))


class Probe(NamedTuple):
    """first_obs(key) -> obs []; transition(obs, action) -> (next obs, reward, termination).

    A discrete action is the number of the choice.
    """

    first_obs: Callable
    transition: Callable


def _zero(key):
    return jnp.zeros(())


def _sign(key):
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


def _rare(key):
    """Which of both it is, is too little for a network to see."""
    return jnp.where(jax.random.bernoulli(key, 0.1), 1e-6, 0.0)


PROBES = {
    # reward 1 for ever
    'for_ever': Probe(_zero, lambda obs, action: (obs, 1.0, False)),
    # reward 1 for five steps, of which the last starts at 0.8
    'five_steps': Probe(_zero, lambda obs, action: (obs + 0.2, 1.0, obs > 0.7)),
    # two steps; only the second is rewarded
    'later': Probe(_zero, lambda obs, action: (obs + 1.0, obs, obs > 0.5)),
    # one step; the reward is the observation
    'seen': Probe(_sign, lambda obs, action: (obs, obs, True)),
    # one step; the reward is 1 in one of ten episodes and 0 in the others, which look alike
    'rare': Probe(_rare, lambda obs, action: (obs, 1e6 * obs, True)),
    # one step; the reward is the observation plus half the action
    'seen_and_done': Probe(_sign, lambda obs, action: (obs, obs + 0.5 * action, True)),
    # one step; the best action is half of what is seen
    'half': Probe(_sign, lambda obs, action: (obs, -((action - 0.5 * obs) ** 2), True)),
    # one step; the choice of the sign that is seen is right, and rewarded with 1
    'right_choice': Probe(_sign, lambda obs, choice: (obs, 1.0 * (choice == (obs > 0)), True)),
    # the same, but the wrong choice is punished
    'wrong_choice': Probe(_sign, lambda obs, choice: (obs, obs * (2.0 * choice - 1.0), True)),
    # one step; small actions are a little better
    'small': Probe(_zero, lambda obs, action: (obs, -0.5 * action**2, True)),
}
NUMBER = {name: number for number, name in enumerate(PROBES)}


def make(number: jax.Array, spec: Spec = SPEC) -> Env:
    """The probe of this number (see `NUMBER`), which may be traced."""

    def choose(outcomes):
        return jnp.stack([jnp.asarray(x, jnp.float32) for x in outcomes])[number]

    def state(obs, reward, termination, key):
        obs, no = jnp.reshape(obs, (1,)), jnp.zeros((), bool)
        return EnvState(obs, obs, reward, termination, no, {}, key, ())

    def reset(key):
        key, obs_key = jax.random.split(key)
        first = choose([probe.first_obs(obs_key) for probe in PROBES.values()])
        return state(first, jnp.zeros(()), jnp.zeros((), bool), key)

    def step(before, action):
        action = action[0] if spec is SPEC else jnp.argmax(action).astype(jnp.float32)
        outcomes = [probe.transition(before.obs[0], action) for probe in PROBES.values()]
        obs, reward, termination = map(choose, zip(*outcomes, strict=True))
        return state(obs, reward, termination > 0, before.key)

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, spec), LIMIT))


def column(numbers, size: int):
    """[size, 1]: the numbers, of which there may be fewer, and zeros."""
    return np.float32([*numbers, *[0.0] * (size - len(numbers))])[:, None]
