"""`off_policy` with its buffer in the host's memory, for buffers that the device has no room for.

The same parts: acting and learning are programs on the device, storing and sampling are the same
functions as programs on JAX's CPU device. Rollouts go down to it and minibatches come up, once an
iteration. So a step is a Python loop over three programs, for one seed and one device, and slower.
"""

import functools

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.loops import off_policy, on_policy


def make(
    env: types.Env,
    agent: types.Agent,
    config: off_policy.Config,
    gamma: float,
    episode_steps: int,
    goals: types.Goals | None = None,
) -> types.Loop:
    """A loop whose `init` and `step` are no programs but run some; arguments as off_policy.make.

    The state's memory lies on the CPU device, and so must the demonstrations that `step` takes.
    `step` takes the memory of the state that it is given.
    """
    parts = off_policy.make_parts(env, agent, config, gamma, episode_steps, goals)
    host, device = jax.devices('cpu')[0], jax.devices()[0]
    down, up = (functools.partial(jax.device_put, device=x) for x in (host, device))
    begin = jax.jit(functools.partial(off_policy.begin_step, env, config))
    act = jax.jit(parts.act, donate_argnums=1)
    learn = jax.jit(parts.learn, donate_argnums=0)
    store = jax.jit(off_policy.store, donate_argnums=0)
    sample = jax.jit(parts.sample)
    prioritise = jax.jit(off_policy.prioritise, donate_argnums=0)
    first = jax.jit(parts.begin)

    def init(key):
        state, batch = first(key)
        with jax.default_device(host):
            empty = parts.empty()
        return state.replace(memory=store(empty, down(batch)))

    def iteration(state, key, pool, data):
        act_key, sample_key, learn_key = jax.random.split(key, 3)
        train, env_state, batch, metrics = act(state.train, state.env, pool, act_key)
        memory = store(state.memory, down(batch))
        batch, places = sample(memory, data, down(sample_key))
        train, learnt = learn(train, up(batch), learn_key)
        memory = prioritise(memory, places, down(learnt.pop('td_error')))
        return state.replace(train=train, env=env_state, memory=memory), metrics | learnt

    def step(state, data):
        key, pool, keys = begin(state.key)
        state, rows = state.replace(key=key), []
        for key in keys:
            state, row = iteration(state, key, pool, data)
            rows.append(row)
        metrics = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *rows)
        return state, on_policy.per_episode(metrics)

    return types.Loop(init, step)
