"""Learning from the current policy's own experience, in a batch of environments."""

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.envs.wrap import auto_reset, time_limit
from jaxpolicy.loops import policies, rollout


def make(
    env: types.Env,
    agent: types.Agent,
    num_envs: int,
    rollout_length: int,
    iterations_per_round: int,
    episode_steps: int,
    pool_size: int = 0,
) -> types.Loop:
    """A loop of rollout, update, rollout, update...

    Args:
      env: vectorised and time-limited, not auto-resetting: the loop adds that, with a pool of fresh
        starts that it draws once per rollout.
      agent: takes rollouts [T, N].
      num_envs: N.
      rollout_length: T.
      iterations_per_round: rollouts (each with one `agent.update`) in one call of `step`.
      episode_steps: the time limit; first episodes start at a random phase of it.
      pool_size: fresh starts drawn for each rollout; 0: twice as many as episodes that time ends in
        one, but at least 64 and at most N. Some tasks take hundreds of physics steps to reset.
    """
    ended = -(-2 * num_envs * rollout_length // episode_steps)
    pool_size = pool_size or min(num_envs, max(64, ended))

    def init(key):
        agent_key, pool_key, reset_key, phase_key, loop_key = jax.random.split(key, 5)
        pool = env.reset(jax.random.split(pool_key, pool_size))
        env_state = auto_reset.auto_reset(env, pool).reset(jax.random.split(reset_key, num_envs))
        env_state = time_limit.random_phase(env_state, phase_key, episode_steps)
        memory = agent.memory(env_state.obs)
        return strong(types.LoopState(agent.init(agent_key), env_state, loop_key, memory))

    def iteration(state, iteration_key):
        pool_key, rollout_key, update_key = jax.random.split(iteration_key, 3)
        pool = env.reset(jax.random.split(pool_key, pool_size))
        env_state, memory, batch, env_metrics = rollout.rollout(
            auto_reset.auto_reset(env, pool),
            policies.of(agent, state.train),
            state.env,
            state.memory,
            rollout_key,
            rollout_length,
        )
        train, metrics = agent.update(state.train, batch, update_key)
        state = state.replace(train=train, env=env_state, memory=memory)
        return state, metrics | summarize(batch, env_metrics)

    def step(state, data):
        del data
        key, step_key = jax.random.split(state.key)
        keys = jax.random.split(step_key, iterations_per_round)
        state, metrics = jax.lax.scan(iteration, state.replace(key=key), keys)
        return strong(state), per_episode(jax.tree.map(jnp.mean, metrics))

    return types.Loop(init, step)


def strong(state: types.LoopState) -> types.LoopState:
    """No weak types: an environment whose reward is `jnp.where(x, 1.0, 0.0)` has one, which its
    reset may not have, and then the second call of `step` would compile it once more.
    """

    def one(x):
        return jax.lax.convert_element_type(x, x.dtype) if x.aval.weak_type else x

    return jax.tree.map(one, state)


def summarize(batch: types.Transition, env_metrics: types.Metrics) -> types.Metrics:
    """Sums over one rollout; `per_episode` turns their averages into figures per episode."""
    done = (batch.termination | batch.truncation).astype(jnp.float32)
    ends = {f'end/{name}': jnp.sum(value * done) for name, value in env_metrics.items()}
    return {
        'reward': jnp.mean(batch.reward),
        'episodes': jnp.sum(done),
        'nan_worlds': jnp.sum(1.0 - batch.extras['valid']),
        **ends,
    }


def per_episode(metrics: types.Metrics) -> types.Metrics:
    """Divides each `end/<metric>` by the number of episodes that ended (0 where none did)."""
    episodes = jnp.maximum(metrics['episodes'], 1e-8)
    return {
        name: value / episodes if name.startswith('end/') else value
        for name, value in metrics.items()
    }
