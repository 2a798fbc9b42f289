"""Learning from the current policy's own experience, in a batch of environments."""

import jax
import jax.numpy as jnp

from jaxpolicy import train_state, types
from jaxpolicy.envs.wrap import auto_reset, time_limit
from jaxpolicy.loops import rollout


def make(
    env: types.Env,
    agent: types.AnyAgent,
    num_envs: int,
    rollout_length: int,
    iterations_per_round: int,
    episode_steps: int,
    pool_size: int = 0,
) -> types.Loop:
    """Makes a loop that alternates rollouts and updates of the agent.

    Args:
      env: vectorised and time-limited, without auto-reset, which the loop adds together with a pool
        of fresh starts that it draws once per rollout.
      agent: takes rollouts [T, N].
      num_envs: N.
      rollout_length: T.
      iterations_per_round: rollouts (each with one `agent.update`) in one call of `step`.
      episode_steps: the time limit; the clock of each first episode starts at a random time.
      pool_size: fresh starts drawn for each rollout. 0 draws twice as many as episodes time out in
        a rollout, but at least 64 and at most N: not N in any case, because in some tasks a reset
        takes hundreds of physics steps.
    """
    ended = -(-2 * num_envs * rollout_length // episode_steps)
    pool_size = pool_size or min(num_envs, max(64, ended))

    def init(key):
        agent_key, pool_key, reset_key, phase_key, loop_key = jax.random.split(key, 5)
        pool = env.reset(jax.random.split(pool_key, pool_size))
        env_state = auto_reset.auto_reset(env, pool).reset(jax.random.split(reset_key, num_envs))
        env_state = time_limit.random_phase(env_state, phase_key, episode_steps)
        train = agent.init(agent_key)
        memory = agent.policy(train).init(env_state.obs)
        return rollout.strong(types.LoopState(train, env_state, loop_key, memory))

    def iteration(state, iteration_key):
        pool_key, rollout_key, update_key = jax.random.split(iteration_key, 3)
        pool = env.reset(jax.random.split(pool_key, pool_size))
        env_state, memory, batch, env_metrics = rollout.rollout(
            auto_reset.auto_reset(env, pool),
            agent.policy(state.train),
            state.env,
            state.memory,
            rollout_key,
            rollout_length,
        )
        train, metrics = agent.update(state.train, batch, update_key)
        state = state.replace(train=train, env=env_state, memory=memory)
        return state, metrics | rollout.summarize(batch, env_metrics)

    def step(state, data):
        del data
        (key, step_key), before = jax.random.split(state.key), state.train.step
        keys = jax.random.split(step_key, iterations_per_round)
        state, metrics = jax.lax.scan(iteration, state.replace(key=key), keys)
        env_steps = num_envs * rollout_length * iterations_per_round
        done = train_state.progress(before, state.train.step, env_steps)
        return rollout.strong(state), rollout.per_episode(jax.tree.map(jnp.mean, metrics)) | done

    return types.Loop(init, step)
