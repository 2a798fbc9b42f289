"""`off_policy` with its buffer in the host's memory, for buffers that do not fit on the device.

It uses the same functions as `off_policy`. Acting and learning run on the device; storing and
sampling run on JAX's CPU device. In each iteration a rollout is copied down to the CPU device and
minibatches are copied up. So a step is a Python loop that starts several compiled programs in each
iteration. It is slower than the one program of `off_policy`, and serves one seed and one device.
"""

import functools

import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.loops import off_policy, rollout


def make(
    env: types.Env,
    agent: types.AnyAgent,
    config: off_policy.Config,
    gamma: float,
    episode_steps: int,
    goals: types.Goals | None = None,
) -> types.Loop:
    """Makes the loop; the arguments are those of `off_policy.make`.

    Its `init` and `step` are Python functions that run compiled programs, and cannot be jitted. The
    state's memory lies on the CPU device, and the demonstrations given to `step` must lie there
    too. `step` reuses the arrays of the state that it is given, which cannot be read afterwards.
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
        # Read these now, as donated arrays cannot be read after the programs below have run.
        before, count = jax.device_get((state.train.step, state.memory.buffer.count))
        env_steps = off_policy.num_env_steps(config, count)
        state, rows = state.replace(key=key), []
        for key in keys:
            state, row = iteration(state, key, pool, data)
            rows.append(row)
        metrics = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *rows)
        done = train_state.progress(before, state.train.step, env_steps)
        return state, rollout.per_episode(metrics) | done

    return types.Loop(init, step)
