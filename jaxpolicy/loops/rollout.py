"""Rollouts: a policy acts in a batch of environments for a number of steps."""

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
    """Lets a policy act in a vectorised environment for T steps.

    Args:
      env: vectorised over N, usually with auto-reset, which starts a new episode where one ends.
      policy: its carry starts anew where an episode ends.
      env_state: [N], the state from which to continue.
      carry: what the policy remembers from before, leaves [N, ...], or ().
      key: for the random draws of the policy.
      length: T.

    Returns:
      The last env state, the last carry, transitions [T, N] with the first carry, and the env's
      metrics [T, N]. A step that an auto-resetting env reports as broken (metric 'nan_world') has
      extras['valid'] = 0; every other step has 1.
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
    return env_state, last_carry, batch.replace(carry=carry), metrics


def strong(state: types.LoopState) -> types.LoopState:
    """Turns all weak types in the state into strong ones, so that `step` compiles only once.

    A reward such as `jnp.where(x, 1.0, 0.0)` has a weak type. If the environment's reset returns a
    strong one, the second call of `step` would see other types than the first, and compile again.
    """

    def one(x):
        return jax.lax.convert_element_type(x, x.dtype) if x.aval.weak_type else x

    return jax.tree.map(one, state)


def summarize(batch: types.Transition, env_metrics: types.Metrics) -> types.Metrics:
    """Sums up one rollout; `per_episode` turns averages over rollouts into figures per episode."""
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
