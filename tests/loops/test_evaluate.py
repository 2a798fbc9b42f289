import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.loops import evaluate
from jaxpolicy.types import Env, EnvState, HostEnv, Policy, Spec

LIMIT = 7
SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))


def make_walk():
    """x starts in (0, 1) and grows by the action; ends above 2; the reward is the new x."""

    def state(x, key):
        return EnvState(
            obs=x[None],
            next_obs=x[None],
            reward=x,
            termination=x > 2,
            truncation=jnp.zeros((), bool),
            metrics={'height': jnp.sin(3 * x), 'over': (x > 2).astype(jnp.float32)},
            key=key,
            sim=x,
        )

    def reset(key):
        return state(jax.random.uniform(key), key)

    def step(before, action):
        return state(before.sim + action[0], before.key)

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, SPEC), LIMIT))


def make_policy(speed):
    """Alternates between noise and a steady pace: has a memory, and uses its key."""

    def init(obs):
        return jnp.zeros(obs.shape[0], jnp.int32)

    def act(memory, obs, key):
        noise = jax.random.uniform(key, (obs.shape[0], 1)) * speed
        return memory + 1, jnp.where(memory[:, None] % 2 == 0, noise, speed), {}

    return Policy(init, act)


def by_hand(start, act_key, speed, num_steps, limit):
    """One step at a time, one episode at a time, in numpy."""
    noise = [
        np.asarray(jax.random.uniform(jax.random.fold_in(act_key, t), (len(start), 1)))[:, 0]
        for t in range(num_steps)
    ]
    episodes = []
    for n, x in enumerate(start):
        xs = []
        for t in range(min(num_steps, limit)):
            x = np.float32(x + np.float32(speed * (noise[t][n] if t % 2 == 0 else 1.0)))
            xs.append(x)
            if x > 2:
                break
        episodes.append(np.array(xs))
    return episodes


def check(result, episodes):
    np.testing.assert_array_equal(result['broken'], 0.0)
    np.testing.assert_array_equal(result['length'], [len(xs) for xs in episodes])
    np.testing.assert_allclose(result['return'], [xs.sum() for xs in episodes], rtol=1e-5)
    for name, metric in (('height', lambda x: np.sin(3 * x)), ('over', lambda x: x > 2)):
        values = [metric(xs).astype(np.float32) for xs in episodes]
        for kind, reduce in (('max', np.max), ('mean', np.mean), ('final', lambda v: v[-1])):
            expected = [reduce(v) for v in values]
            np.testing.assert_allclose(result[f'{name}_{kind}'], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('num_steps', [3, LIMIT + 4])
def test_evaluate_equals_a_loop_that_stops_at_the_first_end(num_steps):
    keys, act_key = jax.random.split(jax.random.key(0), 16), jax.random.key(1)
    env = make_walk()

    @jax.jit
    def run(speed, keys, act_key):
        return evaluate.evaluate(env, make_policy(speed), keys, act_key, num_steps)

    result = run(0.4, keys, act_key)
    assert sorted(result) == sorted(evaluate.metric_names(['height', 'over']))
    start = np.asarray(jax.vmap(jax.random.uniform)(keys))
    episodes = by_hand(start, act_key, 0.4, num_steps, LIMIT)
    check(result, episodes)
    if num_steps > LIMIT:  # some terminate, some run out of time
        assert 0 < result['over_final'].sum() < 16


def test_episodes_with_numbers_that_are_no_numbers_are_told_apart():
    """Before their end: what comes after it counts nowhere."""
    env = make_walk()

    def step(state, action):
        after, number = env.step(state, action), jnp.arange(4)
        reward = jnp.where(number == 1, jnp.nan, after.reward)  # always
        # of world 2 only in steps after its end, of world 3 in the others
        odd = jnp.where(state.obs[:, 0] > 2, number == 2, number == 3)
        height = jnp.where(odd, jnp.inf, after.metrics['height'])
        return after.replace(reward=reward, metrics=after.metrics | {'height': height})

    keys, act_key = jax.random.split(jax.random.key(0), 4), jax.random.key(1)
    odd, policy = env._replace(step=step), make_policy(0.9)
    result, trace = evaluate.evaluate_and_trace(odd, policy, keys, act_key, LIMIT + 4, 4, 0)
    np.testing.assert_array_equal(result['broken'], [0, 1, 0, 1])
    plain = evaluate.evaluate(env, policy, keys, act_key, LIMIT + 4)
    for name, value in plain.items():
        np.testing.assert_array_equal(result[name][::2], value[::2])
    np.testing.assert_array_equal(result['length'][1::2], 0)  # both broke at their first step
    np.testing.assert_array_equal(trace.valid.sum(0), result['length'])


@pytest.mark.parametrize('what', ['obs', 'action', 'reward', 'over', 'start'])
def test_whatever_breaks_ends_the_episode_on_the_device_and_outside(what):
    """The third episode breaks at its second step and is sound again afterwards; or starts so."""
    bad = np.array([0.0, 0.0, np.nan], np.float32)
    walk, host = make_walk(), make_host_walk([])

    def act(count, obs, key):
        odd = jnp.where(count[:, None] == 1, bad[:, None], 0.0) if what == 'action' else 0.0
        return count + 1, jnp.full((3, 1), 0.1) + odd, {}

    policy = Policy(lambda obs: jnp.zeros(3, jnp.int32), act)

    def spoiled(now, obs, reward, metrics):
        obs = obs + (now[:, None] if what == 'obs' else 0.0)
        reward = reward + (now if what == 'reward' else 0.0)
        return obs, reward, metrics | {'over': metrics['over'] + (now if what == 'over' else 0.0)}

    def reset(keys):
        state = walk.reset(keys)
        return state.replace(obs=state.obs + bad[:, None]) if what == 'start' else state

    def step(state, action):
        after = walk.step(state, jnp.where(jnp.isfinite(action), action, 0.0))  # it hides it
        now = jnp.where(after.sim.count == 2, bad, 0.0)
        obs, reward, metrics = spoiled(now, after.obs, after.reward, after.metrics)
        return after.replace(obs=obs, reward=reward, metrics=metrics)

    keys, act_key = jax.random.split(jax.random.key(0), 3), jax.random.key(1)
    found = [evaluate.evaluate(Env(reset, step, SPEC), policy, keys, act_key, 4)]
    steps = []

    def host_step(action):
        steps.append(action)
        obs, reward, termination, metrics = host.step(action)
        now = bad if len(steps) == 2 else np.zeros(3)
        obs, reward, metrics = spoiled(now, obs, reward, metrics)
        return obs, reward, termination, metrics

    def host_reset(seeds):
        return host.reset(seeds) + (bad[:, None] if what == 'start' else 0.0)

    outside = host._replace(reset=host_reset, step=host_step)
    found.append(evaluate.evaluate_host(outside, policy, act_key, [1, 2, 3], 4))
    for result in found:
        np.testing.assert_array_equal(result['broken'], [0, 0, 1])
        np.testing.assert_array_equal(result['length'], [4, 4, 0 if what == 'start' else 1])
        for name in set(result) - {'broken', 'length'}:
            np.testing.assert_array_equal(np.isfinite(result[name]), [True, True, False])


def test_trace_keeps_the_steps_of_evaluate():
    keys, act_key = jax.random.split(jax.random.key(2), 5), jax.random.key(3)
    env, policy, num_steps = make_walk(), make_policy(0.4), LIMIT + 4
    expected = evaluate.evaluate(env, policy, keys, act_key, num_steps)
    result, trace = evaluate.evaluate_and_trace(env, policy, keys, act_key, num_steps, 4, 2)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    valid, height = trace.valid, trace.metrics['height']  # [T, 4]
    np.testing.assert_array_equal(valid.sum(0), result['length'][:4])
    assert (np.diff(valid.astype(int), axis=0) <= 0).all()  # a prefix of each column
    np.testing.assert_array_equal(np.where(valid, height, -np.inf).max(0), result['height_max'][:4])
    assert trace.states.obs.shape == (num_steps, 2, 1)
    np.testing.assert_allclose(np.sin(3 * trace.states.sim.inner), height[:, :2], atol=1e-5)


def test_no_key_is_used_twice():
    env, policy = make_walk(), make_policy(0.4)
    with jax.debug_key_reuse(True):
        keys = jax.random.split(jax.random.key(0), 3)
        jax.jit(lambda k, a: evaluate.evaluate(env, policy, k, a, 3))(keys, jax.random.key(1))


def make_host_walk(log):
    """The walk as a host simulator; logs how often each simulator is stepped."""
    x = np.zeros(0, np.float32)

    def reset(seeds):
        nonlocal x
        x = np.array([np.random.RandomState(s).rand() for s in seeds], np.float32)
        return x[:, None]

    def step(action):
        nonlocal x
        log.append(len(x))
        x = (x + action[:, 0]).astype(np.float32)
        metrics = {'height': np.sin(3 * x), 'over': (x > 2).astype(np.float32)}
        return x[:, None], x, x > 2, metrics

    return HostEnv(reset, step, lambda index: np.zeros((1, 1, 3), np.uint8), SPEC)


def test_evaluate_host_equals_the_loop_and_stops_when_all_have_ended():
    seeds, key = list(range(100, 116)), jax.random.key(4)
    start = [np.random.RandomState(s).rand() for s in seeds]
    log = []
    policy = evaluate.compiled(make_policy)
    result = evaluate.evaluate_host(make_host_walk(log), policy(0.4), key, seeds, 5)
    check(result, by_hand(start, key, 0.4, 5, 5))
    assert len(log) == 5 and 0 < result['over_final'].sum() < 16
    log.clear()
    result = evaluate.evaluate_host(make_host_walk(log), policy(0.4), key, seeds, 100)
    check(result, by_hand(start, key, 0.4, 100, 100))
    assert len(log) == result['length'].max() < 100
    assert all(isinstance(value, np.ndarray) for value in result.values())


def test_compiled_traces_once_for_all_states_and_closes_over_none():
    traces = []

    def traced(state):
        def act(memory, obs, key):
            traces.append(1)
            return memory, obs * state['weight'].sum(), {}

        return Policy(lambda obs: (), act)

    policy = evaluate.compiled(traced)
    for weight in (1.0, 2.0, 3.0):
        _, action, _ = policy({'weight': jnp.full(4, weight)}).act(
            (), jnp.ones((2, 1)), jax.random.key(0)
        )
        np.testing.assert_allclose(action, np.full((2, 1), 4 * weight))
    assert len(traces) == 1
