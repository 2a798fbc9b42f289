import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.envs.wrap import auto_reset, time_limit, vectorize
from jaxpolicy.loops import rollout
from jaxpolicy.types import Env, EnvState, Policy, Spec, memoryless

N, T = 4, 12
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))


def counter() -> Env:
    """obs [length, count]: the episode ends by itself when the count reaches the length."""

    def state(length, count, key):
        obs = jnp.stack([length, count])
        no = jnp.zeros((), bool)
        metrics = {'count': count}
        return EnvState(obs, obs, -count, (count >= length) & (count > 0), no, metrics, key, ())

    def reset(key):
        key, length_key = jax.random.split(key)
        length = jax.random.randint(length_key, (), 2, 5).astype(jnp.float32)
        return state(length, jnp.zeros(()), key)

    def step(before, action):
        after = state(before.obs[0], before.obs[1] + 1.0 + 0.0 * action[0], before.key)
        return after.replace(sim=before.sim)

    return Env(reset, step, SPEC)


def batched(limit=100):
    env = vectorize.vectorize(time_limit.time_limit(counter(), limit))
    pool = env.reset(jax.random.split(jax.random.key(1), N))
    env = auto_reset.auto_reset(env, pool)
    return env, env.reset(jax.random.split(jax.random.key(2), N))


def remembering() -> Policy:
    """Its memory: the first observation of the episode, and how many steps it has acted in it."""

    def init(obs):
        return {'first': obs, 'steps': jnp.zeros(obs.shape[0], jnp.int32)}

    def act(carry, obs, key):
        noise = jax.random.uniform(key, (obs.shape[0], 1))
        extras = {'steps': carry['steps'], 'first': carry['first']}
        return {**carry, 'steps': carry['steps'] + 1}, noise, extras

    return Policy(init, act)


def _roll(limit=100):
    env, state = batched(limit)
    policy = remembering()
    run = jax.jit(lambda s, c, k: rollout.rollout(env, policy, s, c, k, T))
    carry = policy.init(state.obs)
    return state, carry, run, run(state, carry, jax.random.key(3))


def test_transitions_join_up():
    first, _, _, (last, _, batch, metrics) = _roll()
    obs, next_obs = np.asarray(batch.obs), np.asarray(batch.next_obs)
    done = np.asarray(batch.termination | batch.truncation)
    assert obs.shape == (T, N, 2) and batch.action.shape == (T, N, 1)
    assert done.sum() > N
    np.testing.assert_array_equal(obs[0], first.obs)
    # the step led one further in the same episode, also where the episode ended there
    np.testing.assert_array_equal(next_obs[..., 1], obs[..., 1] + 1)
    np.testing.assert_array_equal(next_obs[..., 0], obs[..., 0])
    np.testing.assert_array_equal(done, next_obs[..., 1] >= next_obs[..., 0])
    np.testing.assert_array_equal(batch.reward, -next_obs[..., 1])
    np.testing.assert_array_equal(metrics['count'], next_obs[..., 1])
    # what the policy saw next is that state, or the start of another episode
    seen = np.concatenate([obs[1:], np.asarray(last.obs)[None]])
    np.testing.assert_array_equal(seen[~done], next_obs[~done])
    np.testing.assert_array_equal(seen[done][:, 1], 0.0)
    np.testing.assert_array_equal(batch.extras['valid'], 1.0)


def test_the_policys_memory_restarts_with_the_episode():
    _, _, _, (last, carry, batch, _) = _roll()
    obs = np.asarray(batch.obs)
    np.testing.assert_array_equal(batch.extras['steps'], obs[..., 1])  # steps since the start
    first = np.asarray(batch.extras['first'])
    np.testing.assert_array_equal(first[..., 1], 0.0)
    np.testing.assert_array_equal(first[..., 0], obs[..., 0])  # this episode's, not the last's
    np.testing.assert_array_equal(carry['steps'], last.obs[:, 1])
    np.testing.assert_array_equal(carry['first'][:, 0], last.obs[:, 0])


def test_a_rollout_continues_where_the_last_one_stopped():
    first, carry, run, (middle, memory, batch, _) = _roll()
    _, _, later, _ = run(middle, memory, jax.random.key(4))
    # what was remembered before the first step goes along with the transitions
    jax.tree.map(np.testing.assert_array_equal, batch.carry, carry)
    jax.tree.map(np.testing.assert_array_equal, later.carry, memory)
    np.testing.assert_array_equal(later.obs[0], middle.obs)
    np.testing.assert_array_equal(later.extras['steps'], later.obs[..., 1])
    again = run(first, carry, jax.random.key(3))[2]
    jax.tree.map(np.testing.assert_array_equal, again, batch)
    other = run(first, carry, jax.random.key(5))[2]
    assert (other.action != batch.action).all()
    assert len(np.unique(batch.action)) == T * N  # every step and world has its own noise


def test_truncations_and_terminations_are_kept_apart():
    _, _, _, (_, _, batch, _) = _roll(limit=3)
    length, count = np.moveaxis(np.asarray(batch.next_obs), -1, 0)
    np.testing.assert_array_equal(batch.termination, count >= length)
    np.testing.assert_array_equal(batch.truncation, (count == 3) & (length > 3))
    assert batch.termination.any() and batch.truncation.any()


def test_broken_worlds_are_marked():
    env, state = batched()

    def act(carry, obs, key):
        action = jnp.where(obs[:, 1:] == 1.0, jnp.nan, 0.0)  # breaks every world at its 2nd step
        return carry, action, {}

    policy = Policy(lambda obs: (), act)
    _, _, batch, metrics = rollout.rollout(env, policy, state, (), jax.random.key(0), T)
    broken = np.asarray(batch.obs)[..., 1] == 1.0
    np.testing.assert_array_equal(batch.extras['valid'], 1.0 - broken)
    np.testing.assert_array_equal(metrics['nan_world'], broken)
    assert broken.sum() == T // 2 * N
    assert all(np.isfinite(x).all() for x in (batch.obs, batch.next_obs, batch.reward))


def test_an_env_without_resets_has_only_valid_steps():
    env = vectorize.vectorize(counter())
    state = env.reset(jax.random.split(jax.random.key(0), N))
    _, _, batch, _ = rollout.rollout(
        env, remembering(), state, remembering().init(state.obs), jax.random.key(0), 3
    )
    np.testing.assert_array_equal(batch.extras['valid'], 1.0)


def test_memoryless_passes_everything_on():
    def policy_of(state, deterministic=False):
        def act(obs, key):
            noise = 0.0 if deterministic else jax.random.uniform(key)
            return state * obs + noise, {'seen': obs}

        return memoryless(act)

    obs, key = jnp.ones((3, 1)), jax.random.key(0)
    for deterministic, noise in ((True, 0.0), (False, jax.random.uniform(key))):
        policy = policy_of(2.0, deterministic)
        carry, action, extras = policy.act(policy.init(obs), obs, key)
        np.testing.assert_array_equal(action, 2.0 * obs + noise)
        np.testing.assert_array_equal(extras['seen'], obs)
        assert carry == ()


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        env, state = batched()
        policy = remembering()
        jax.jit(lambda s, k: rollout.rollout(env, policy, s, policy.init(s.obs), k, 3))(
            state, jax.random.key(0)
        )
