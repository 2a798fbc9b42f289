"""Experience: a policy in a batch of environments for a number of steps."""

import jax
import jax.numpy as jnp

from jaxpolicy import types


def rollout(
    env: types.Env,
    policy: types.Policy,
    env_state: types.EnvState,
    carry: types.PyTree,
    key: types.Key,
    length: int,
) -> tuple[types.EnvState, types.PyTree, types.Transition, types.Metrics]:
    """Steps a vectorised environment.

    Args:
      env: vectorised over N, as a rule auto-resetting: where an episode ends, its next state
        starts another.
      policy: its memory starts anew where an episode ends.
      env_state: where to continue, [N].
      carry: the policy's memory, [N] or ().
      key: consumed.
      length: T.

    Returns:
      The last env state, the last carry, transitions [T, N] with the first carry as their memory,
      and the env's metrics [T, N]. A step that an auto-resetting env reports as broken (metric
      'nan_world') has extras['valid'] = 0, every other step has 1.
    """

    def step(loop, step_key):
        env_state, carry = loop
        obs = env_state.obs
        carry, action, extras = policy.act(carry, obs, step_key)
        env_state = env.step(env_state, action)
        done = env_state.termination | env_state.truncation

        def restart(new, old):
            return jnp.where(done.reshape(done.shape + (1,) * (old.ndim - 1)), new, old)

        carry = jax.tree.map(restart, policy.init(env_state.obs), carry)
        broken = env_state.metrics.get('nan_world', jnp.zeros_like(env_state.reward))
        transition = types.Transition(
            obs=obs,
            action=action,
            reward=env_state.reward,
            termination=env_state.termination,
            truncation=env_state.truncation,
            next_obs=env_state.next_obs,
            extras={**extras, 'valid': 1.0 - broken},
        )
        return (env_state, carry), (transition, env_state.metrics)

    keys = jax.random.split(key, length)
    (env_state, last_carry), (batch, metrics) = jax.lax.scan(step, (env_state, carry), keys)
    return env_state, last_carry, batch.replace(memory=carry), metrics
