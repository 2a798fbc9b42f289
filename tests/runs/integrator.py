"""A task so small that whole programs compile in a second: bring a random point to 0.

Agents are linear, and on-policy it is A2C, of which less is compiled than of PPO: that the updates
of every agent are the same for several seeds and on several devices is in tests/contract.
"""

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.agents import a2c, ppo, sac
from jaxpolicy.agents import transforms as agent_transforms
from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.loops import off_policy, on_policy

NUM_ENVS = 8
SPEC = types.Spec(*(jax.ShapeDtypeStruct((2,), jnp.float32),) * 2)


def env() -> types.Env:
    """obs [2], moved by the action; the reward is minus the squared distance."""

    def reset(key):
        key, start_key = jax.random.split(key)
        obs = jax.random.normal(start_key, (2,))
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        return types.EnvState(obs, obs, zero, no, no, {'x': zero}, key, ())

    def step(state, action):
        obs = state.obs + 0.1 * jnp.clip(action, -1.0, 1.0)
        reward = -jnp.sum(obs**2)
        return state.replace(obs=obs, next_obs=obs, reward=reward, metrics={'x': obs[0]})

    return vectorize.vectorize(time_limit.time_limit(types.Env(reset, step, SPEC), 5))


def loop(name: str = 'a2c') -> types.Loop:
    """A2C, or 'ppo' with minibatches, with 8 environments and an iteration a step."""
    if name == 'ppo':
        agent = ppo.make(ppo.Config(hidden=(8,), num_epochs=2, num_minibatches=4), SPEC)
    else:
        agent = a2c.make(a2c.Config(hidden=()), SPEC)
    agent = agent_transforms.standardize_obs(agent, SPEC.obs)
    return on_policy.make(env(), agent, NUM_ENVS, 4, 1, 5)


def replay_loop(make=off_policy.make) -> types.Loop:
    """SAC with 8 environments, prioritised n-step samples and an update a step.

    make: of off_policy, or of off_policy_host.
    """
    agent = sac.make(sac.Config(hidden=(), learning_rate=1e-2), SPEC)
    agent = agent_transforms.standardize_replay(agent, SPEC.obs)
    config = off_policy.Config(
        num_envs=NUM_ENVS,
        num_minibatches=2,
        batch_size=16,
        buffer_size=8 * NUM_ENVS,
        learning_starts=4 * NUM_ENVS,
        n_step=2,
        iterations_per_round=3,
        priority_exponent=0.5,
    )
    return make(env(), agent, config, 0.9, 5)
