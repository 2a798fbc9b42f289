# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""Both tasks: types, observations, geometry, rewards, pictures; and the expert of detour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import envs, registry
from jaxpolicy.envs.tasks import detour, parts, reach
from jaxpolicy.envs.tasks import detour_expert as expert
from jaxpolicy.envs.wrap import time_limit, vectorize
from tests.envs import native, seen

TASKS = sorted(set(registry.TABLES['envs']) - {'playground', 'pusht_gym'})  # on the device, ours
ARMS = sorted(set(TASKS) - {'cartpole', 'pendulum', 'pusht'})  # these have their own files


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)


# Tracing takes long, and the tasks share the arm: the quick tests see the short one in one of them.
SHORT = [pytest.param(name, 6, marks=[pytest.mark.slow] * (name != 'reach')) for name in ARMS]


@pytest.mark.parametrize(('name', 'num_dof'), [*((name, 7) for name in ARMS), *SHORT])
def test_a_step_keeps_every_type(name, num_dof):
    task = envs.resolve(name)
    # physics/test_backends.py sees the types of pick's other engine.
    fields = {'backend': 'native'} if name == 'pick' else {}
    env = task.make(task.module.Config(num_dof=num_dof, **fields))
    action = jnp.zeros(env.spec.action.shape)
    first = jax.eval_shape(env.reset, jax.random.key(0))
    then = jax.eval_shape(env.step, first, action)
    assert _types(then) == _types(first)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(first))
    assert (first.obs.shape, first.obs.dtype) == (env.spec.obs.shape, env.spec.obs.dtype)
    assert all((m.shape, m.dtype) == ((), jnp.float32) for m in first.metrics.values())


@pytest.fixture(scope='module')
def reach_env():
    """The env, and its first state."""
    env = reach.make(reach.Config(hold_steps=3))
    return env, jax.jit(env.reset)(jax.random.key(0))


def test_reach_rewards_nearness_and_counts_what_is_held(reach_env):
    env, state = reach_env
    step = jax.jit(env.step)
    far = step(state, jnp.zeros(7))
    ee = state.sim.body.trail[0]
    near = state.replace(sim=state.sim.replace(goal=ee + jnp.array([0.0, 0.03, 0.0])))
    success = []
    for _ in range(4):
        near = step(near, jnp.zeros(7))
        success.append(float(near.metrics['success']))
    assert success == [0.0, 0.0, 1.0, 1.0]
    assert float(near.reward) == pytest.approx(np.exp(-0.36) - 0.06, abs=1e-4)
    assert float(far.reward) < 0.0
    np.testing.assert_allclose(near.obs[21:24], ee, atol=1e-4)
    np.testing.assert_allclose(near.obs[27:30], [0.0, 0.03, 0.0], atol=1e-4)
    away = step(near.replace(sim=near.sim.replace(goal=ee + 1.0)), jnp.zeros(7))
    assert int(away.sim.held) == 0
    assert step._cache_size() == 1


def test_reach_goals_lie_in_their_documented_range():
    config = reach.Config()
    goals = jax.vmap(lambda key: reach._goal(config, key))(jax.random.split(jax.random.key(0), 500))
    radius = np.hypot(goals[:, 0], goals[:, 1])
    assert radius.min() >= 0.35 - 1e-5 and radius.max() <= 0.65 + 1e-5
    assert np.abs(np.arctan2(goals[:, 1], goals[:, 0])).max() <= 1.0 + 1e-5
    assert goals[:, 2].min() >= 0.15 and goals[:, 2].max() <= 0.60


def test_distance_around_a_circle():
    def around(point, goal):
        centre = jnp.array([1.0, 2.0])
        return float(detour.distance_around(point + centre, goal + centre, centre, 1.0))

    two = np.array([2.0, 0.0], np.float32)
    behind = 2 * np.sqrt(3) + np.pi - 2 * np.pi / 3  # two tangents and an arc
    assert around(-two, two) == pytest.approx(behind, rel=1e-5)
    assert around(two, two * 3) == pytest.approx(4.0, rel=1e-5)
    side = np.array([0.0, 1.5], np.float32)
    assert around(side, two) == pytest.approx(2.5, rel=1e-5)  # the line is free
    inside = np.array([-0.4, 0.0], np.float32)
    assert around(inside, two) == pytest.approx(0.6 + np.sqrt(3) + np.pi * 2 / 3, rel=1e-5)
    # no jump where the line becomes free
    gaps = [around(np.array([-2.0, y], np.float32), two) for y in np.linspace(0, 4, 400)]
    assert np.abs(np.diff(gaps)).max() < 0.011
    assert np.isfinite(gaps).all()


def test_segment_distance_is_the_least_over_all_pairs_of_points():
    rng = np.random.default_rng(0)
    grid = np.linspace(0.0, 1.0, 201)[:, None]
    for _ in range(20):
        p0, p1, q0, q1 = rng.normal(size=(4, 3)).astype(np.float32)
        left, right = p0 + grid * (p1 - p0), q0 + grid * (q1 - q0)
        brute = np.linalg.norm(left[:, None] - right[None], axis=-1).min()
        found = float(detour.segment_distance(*map(jnp.asarray, (p0, p1, q0, q1))))
        assert brute - 0.02 < found <= brute + 1e-5
    up, beside = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.3, 0.0, 0.2])
    assert float(detour.segment_distance(0 * up, up, beside, beside + up)) == pytest.approx(0.3)


@pytest.fixture(scope='module')
def episodes():
    """run(carry, key) -> first state [N], states [T, N]; the expert in 64 worlds, no resets."""
    config = detour.Config()
    with native.arms():
        env = vectorize.vectorize(time_limit.time_limit(detour.make(config), config.episode_steps))
    policy = expert.make(config)
    first = jax.jit(env.reset)(jax.random.split(jax.random.key(0), 64))

    def step(carry, key):
        state, memory = carry
        memory, action, _ = policy.act(memory, state.obs, key)
        state = env.step(state, action)
        return (state, memory), (state, memory.offset, action)

    @jax.jit
    def run(memory, key):
        keys = jax.random.split(key, config.episode_steps)
        return jax.lax.scan(step, (first, memory), keys)[1]

    return first, policy.init(first.obs), run


def _outcome(states):
    """Each world's first end, and success and contact there."""
    done = np.asarray(states.termination | states.truncation)
    end, world = done.argmax(axis=0), np.arange(done.shape[1])
    assert done.any(axis=0).all()
    return end, *(np.asarray(states.metrics[m])[end, world] for m in ('success', 'contact'))


def test_the_expert_succeeds_on_both_sides(episodes):
    _, memory, run = episodes
    states, offset, action = run(memory, jax.random.key(1))
    end, success, contact = _outcome(states)
    left = np.asarray(offset)[0, :, 0, 1] > 0
    assert success.mean() >= 0.95
    assert not (success * contact).any()
    assert 16 <= left.sum() <= 48
    assert success[left].mean() >= 0.9 and success[~left].mean() >= 0.9
    assert end.max() < 79
    assert np.abs(action).max() <= 1.0
    # the hand passes on the side that was drawn
    middle = np.asarray(states.metrics['ee_y'])[15, :]
    np.testing.assert_array_equal(middle > 0, left)
    np.testing.assert_array_equal(offset[0], offset[-1])


def test_the_straight_path_hits_the_pillar(episodes):
    first, memory, run = episodes
    straight = memory.replace(
        started=jnp.ones((64,), bool),
        offset=jnp.zeros((64, 2, 2)).at[:, 1, 0].set(0.04),
        speed=jnp.full((64,), 0.3, jnp.float32),
    )
    states, _, _ = run(straight, jax.random.key(2))
    _, success, contact = _outcome(states)
    assert contact.mean() >= 0.95
    assert success.mean() <= 0.05


def test_progress_sums_to_the_difference_of_potentials(episodes):
    first, memory, run = episodes
    config = detour.Config()
    straight = memory.replace(
        started=jnp.ones((64,), bool), speed=jnp.full((64,), 0.3, jnp.float32)
    )
    # half of the worlds take the expert's way, half go straight into the pillar
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:32], b[32:]]), memory, straight)
    states, _, _ = run(mixed, jax.random.key(3))
    end, success, contact = _outcome(states)
    world = np.arange(64)
    found = np.where(np.arange(config.episode_steps)[:, None] <= end, states.reward, 0.0).sum(
        axis=0
    )
    bonus = config.success_bonus * success - config.contact_penalty * contact
    potential = np.asarray(states.sim.inner.potential)[end, world]
    expected = potential - np.asarray(first.sim.inner.potential) + bonus
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert success.sum() >= 25 and contact.sum() >= 25
    # the potential counts the metres left: none at the goal, more than the straight line before
    assert (potential[success > 0] > -config.progress_scale * config.tolerance * 1.2).all()
    gap = np.linalg.norm(first.obs[:, 27:30], axis=1)
    assert (np.asarray(-first.sim.inner.potential) > config.progress_scale * gap * 1.05).all()


def test_the_observation_is_what_the_docstring_says(episodes):
    first, memory, run = episodes
    states, _, _ = run(memory, jax.random.key(1))
    sim = parts.find(states.sim, detour.Sim)
    obs, ee = states.obs[9], sim.body.trail[9, :, 0]
    np.testing.assert_array_equal(obs[:, :7], sim.body.qpos[9])
    np.testing.assert_array_equal(obs[:, 7:14], sim.body.qvel[9])
    np.testing.assert_allclose(obs[:, 14:21], sim.body.target[9] - sim.body.qpos[9], atol=1e-6)
    np.testing.assert_array_equal(obs[:, 21:24], ee)
    np.testing.assert_array_equal(obs[:, 24:27], first.sim.inner.goal)
    np.testing.assert_allclose(obs[:, 27:30], sim.goal[9] - ee, atol=1e-6)
    np.testing.assert_array_equal(obs[:, 30:32], first.sim.inner.pillar)
    np.testing.assert_allclose(obs[:, 32:], sim.pillar[9] - ee[:, :2], atol=1e-6)
    np.testing.assert_array_equal(states.next_obs, states.obs)


def test_starts_and_goals_are_where_the_docstring_says(episodes):
    first = episodes[0]
    sim = first.sim.inner
    ee = np.asarray(sim.body.trail[:, 0])
    np.testing.assert_allclose(ee.mean(axis=0), [0.30, 0.0, 0.20], atol=0.02)
    assert np.abs(sim.pillar - np.array([0.46, 0.0])).max() <= 0.01 + 1e-6
    assert (np.abs(sim.goal - np.array([0.63, 0.0, 0.20])) <= np.array([0.03, 0.04, 0.04])).all()


# Those that have files of their own show their pictures there, of states that they have anyway.
@pytest.fixture(params=sorted(set(TASKS) - {'cartpole', 'pendulum', 'pick', 'pusht'}))
def pictured(request):
    """A task, its config, and the first state [1] of an episode; as it was for another test."""
    name, task = request.param, envs.resolve(request.param)
    if name == 'detour':
        first = request.getfixturevalue('episodes')[0]
        return task, task.config, jax.tree.map(lambda x: x[:1], first.replace(sim=first.sim.inner))
    if name == 'reach':
        state = request.getfixturevalue('reach_env')[1]
    else:
        state = jax.jit(task.make(task.config).reset)(jax.random.key(0))
    return task, task.config, jax.tree.map(lambda x: x[None], state)


def test_pictures_show_the_goal(pictured):
    seen.goal(*pictured)
