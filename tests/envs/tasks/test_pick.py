# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""Pick: the scripted expert proves that the cube can be held; the rules of the task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import envs
from jaxpolicy.envs.physics import arm, gripper
from jaxpolicy.envs.tasks import pick, pick_expert
from jaxpolicy.envs.wrap import auto_reset, randomize, time_limit, vectorize

NUM = 64
D = 7


@pytest.fixture(scope='module')
def game():
    """reset(keys [N]) and step, compiled once."""
    env = vectorize.vectorize(pick.make(pick.Config(backend='native')))
    return jax.jit(env.reset), jax.jit(env.step)


def _play(game, act, num_steps, seed):
    """First states [N], states [T, N] and actions [T, N, A]."""
    reset, step = game
    first = state = reset(jax.random.split(jax.random.key(seed), NUM))
    states, actions = [], []
    for key in jax.random.split(jax.random.key(seed + 1), num_steps):
        actions.append(act(state.obs, key))
        states.append(state := step(state, actions[-1]))
    states = jax.tree.map(lambda *x: jnp.stack(x), *states)
    return first, states, jnp.stack(actions)


def _expert(config):
    policy = pick_expert.make(config)
    return jax.jit(lambda obs, key: policy.act((), obs, key)[1])


@pytest.fixture(scope='module')
def episode(game):
    config = pick.Config()
    return _play(game, _expert(config), config.episode_steps, 0)


def _cube(states):
    return states.sim.physics.qpos[..., D + 2 : D + 5]


def test_the_expert_grasps_lifts_and_holds_the_cube(episode):
    _, states, action = episode
    success, grasp = (np.asarray(states.metrics[m]) for m in ('success', 'grasp'))
    assert success[-1].mean() >= 0.95
    lifted = np.asarray(states.metrics['height']) > 0.02
    assert grasp[lifted].mean() > 0.98  # it is never thrown, pushed up or carried otherwise
    assert not success[:15].any()
    assert np.abs(action).max() <= 1.0
    # the cube hardly turns or slips in the hand once it is held for half a second
    gap = np.asarray(_cube(states) - states.sim.trail[:, :, 0])
    assert np.linalg.norm(gap[-1] - gap[-20], axis=-1).max() < 0.01


def test_random_actions_never_succeed(game):
    def act(obs, key):
        return jax.random.uniform(key, (obs.shape[0], D + 1), minval=-1.0)

    _, states, _ = _play(game, act, 80, 1)
    assert not np.asarray(states.metrics['success']).any()
    assert np.isfinite(states.obs).all()
    assert np.asarray(states.reward).max() < 0.5


def test_rewards_are_what_the_docstring_says(episode):
    _, states, action = episode
    obs, reward = np.asarray(states.obs, np.float64), np.asarray(states.reward)
    rest = obs[..., 3 * D :]
    ee, side, down, press = rest[..., :3], rest[..., 3:6], rest[..., 6:9], -rest[..., 11:13]
    cube, goal, in_hand = rest[..., 13:16], rest[..., 28:31], rest[..., 19:25]
    d, g = (np.linalg.norm(cube - x, axis=-1) for x in (ee, goal))
    turn = np.arctan2(in_hand[..., 3], in_hand[..., 1])  # of the cube's y axis
    aligned = 0.5 * np.cos(2 * (turn - np.pi / 2)) ** 2 - 0.5 * down[..., 2]
    grasp = np.clip(press.min(axis=-1) / 0.005, 0, 1) * (d < 0.025)
    lift = np.clip((cube[..., 2] - 0.02) / 0.05, 0, 1) * (d < 0.05)
    expected = 1 - np.tanh(5 * d) + 0.3 * aligned + grasp + lift
    expected = 0.2 * (expected + 3 * lift * (1 - np.tanh(5 * g)) + (g < 0.05))
    expected -= 0.01 * np.mean(np.asarray(action) ** 2, axis=-1)
    flat = np.abs(in_hand[..., 4:]).max(axis=-1) < 0.05  # `turn` is exact for an upright cube
    assert flat.mean() > 0.5
    np.testing.assert_allclose(reward[flat], expected[flat], atol=2e-3)
    assert reward.max() < 1.46
    assert reward[-1].mean() > 1.2 > 0.5 > reward[0].mean()
    assert np.abs(np.linalg.norm(side, axis=-1) - 1).max() < 1e-5
    # success: ten steps in a row within 5 cm
    there = g < 0.05
    ten = np.stack([there[t - 9 : t + 1].all(axis=0) for t in range(9, len(there))])
    np.testing.assert_array_equal(ten, np.asarray(states.metrics['success'])[9:] > 0)


def test_the_sparse_reward_is_being_there(episode):
    env = pick.make(pick.Config(backend='native', reward='sparse'))
    state, step = jax.tree.map(lambda x: x[60, 0], episode[1]), jax.jit(env.step)
    held = step(state, jnp.zeros(D + 1))
    assert (float(held.reward), float(held.metrics['success'])) == (1.0, 1.0)
    new = state.sim.replace(held=jnp.zeros((), jnp.int32))  # there for the first time
    there = step(state.replace(sim=new), jnp.zeros(D + 1))
    assert (float(there.reward), float(there.metrics['success'])) == (1.0, 0.0)
    away = step(state.replace(sim=state.sim.replace(goal=state.sim.goal + 1.0)), jnp.zeros(D + 1))
    assert (float(away.reward), float(away.metrics['success'])) == (0.0, 0.0)


def test_the_observation_is_what_the_docstring_says(episode):
    first, states, _ = episode
    sim = jax.tree.map(lambda x: x[30], states.sim)
    obs, qpos = states.obs[30], sim.physics.qpos
    ee, cube = sim.trail[:, 0], qpos[:, D + 2 : D + 5]
    rest = obs[:, 3 * D :]
    np.testing.assert_array_equal(obs[:, :D], qpos[:, :D])
    np.testing.assert_array_equal(obs[:, D : 2 * D], sim.physics.qvel[:, :D])
    np.testing.assert_allclose(obs[:, 2 * D : 3 * D], sim.target - qpos[:, :D], atol=1e-6)
    np.testing.assert_allclose(rest[:, :3], ee, atol=1e-6)
    robot = arm.make(D, pick.HOME)
    pose = jax.jit(jax.vmap(robot.pose))(qpos[:, :D])
    np.testing.assert_allclose(pose.ee, ee, atol=1e-5)  # the gripper leaves the arm as it was
    np.testing.assert_allclose(pose.direction, rest[:, 6:9], atol=1e-5)
    np.testing.assert_array_equal(rest[:, 9:11], qpos[:, D : D + 2])
    np.testing.assert_allclose(rest[:, 11:13], sim.opening[:, None] - qpos[:, D : D + 2], atol=1e-6)
    np.testing.assert_array_equal(rest[:, 13:16], cube)
    np.testing.assert_allclose(rest[:, 16:19], cube - ee, atol=1e-6)
    np.testing.assert_array_equal(rest[:, 25:28], sim.physics.qvel[:, D + 2 : D + 5])
    np.testing.assert_array_equal(rest[:, 28:31], first.sim.goal)
    np.testing.assert_allclose(rest[:, 31:], sim.goal - cube, atol=1e-6)


def test_starts_are_where_the_docstring_says(episode):
    first = episode[0]
    ee, cube = np.asarray(first.sim.trail[:, 0]), np.asarray(_cube(first))
    np.testing.assert_allclose(ee.mean(axis=0), [0.45, 0.0, 0.15], atol=0.02)
    assert (np.abs(cube - [0.45, 0.0, 0.02]) <= np.array([0.06, 0.10, 1e-6]) + 1e-6).all()
    assert (np.abs(first.sim.goal - np.array([0.45, 0, 0.2])) <= np.array([0.08, 0.12, 0.08])).all()
    yaw = 2 * np.arctan2(first.sim.physics.qpos[:, -1], first.sim.physics.qpos[:, -4])
    assert 0.6 < np.abs(yaw).max() <= np.pi / 4 + 1e-6
    np.testing.assert_allclose(first.sim.opening, gripper.MAX_OPENING)


@pytest.fixture(scope='module')
def drawn_episodes():
    """Eleven steps in which episodes of five steps, each with its own draws, follow each other.

    The first states and those after each step, [12, N]; and how often the step was compiled.
    """
    entries = {
        'weight': ('body_mass+body_inertia', 'scale', 'uniform', 0.5, 2.0, 'cube'),
        'grip': ('pair_friction', 'scale', 'uniform', 0.5, 1.5),
        'gain': ('env.action_scale', 'scale', 'uniform', 0.5, 1.5),
    }
    draw = randomize.drawer(randomize.parse(entries))
    one = pick.make(pick.Config(backend='native'), draw)
    env = vectorize.vectorize(time_limit.time_limit(one, 5))
    reset = jax.jit(env.reset)
    pool, first = (reset(jax.random.split(jax.random.key(seed), 4)) for seed in (0, 1))
    env = auto_reset.auto_reset(env, pool)
    states = [first.replace(metrics=first.metrics | {'nan_world': jnp.zeros(4)})]
    step = jax.jit(env.step)
    for _ in range(11):
        states.append(step(states[-1], jnp.ones((4, D + 1))))
    states = jax.device_get([state.replace(key=()) for state in states])
    return jax.tree.map(lambda *x: np.stack(x), *states), step._cache_size()


def test_episodes_follow_each_other_at_the_time_limit(drawn_episodes):
    states, num_programs = drawn_episodes
    assert not states.termination.any()
    ended = np.array([False] * 4 + [True] + [False] * 4 + [True, False])
    np.testing.assert_array_equal(states.truncation[1:], np.tile(ended[:, None], 4))
    assert num_programs == 1


def test_what_an_episode_draws_stays_with_it_until_the_next(drawn_episodes):
    states, _ = drawn_episodes
    sim = states.sim.inner
    assert len(np.unique(sim.overrides['body_mass'][0, :, -1])) == 4
    assert set(sim.overrides) == {'body_mass', 'body_inertia', 'pair_friction', 'env.action_scale'}
    for drawn in sim.overrides.values():
        np.testing.assert_array_equal(drawn[1:5], np.stack([drawn[0]] * 4))
        np.testing.assert_array_equal(drawn[6:10], np.stack([drawn[5]] * 4))
    scale = sim.overrides['env.action_scale']
    assert (scale[5] != scale[0]).any()
    moved = sim.target[1] - sim.target[0]
    np.testing.assert_allclose(moved[:, 0], scale[0], rtol=1e-4)


def test_joint_targets_do_not_wind_up(game):
    down = jnp.zeros((NUM, D + 1)).at[:, 1].set(1.0)  # into the floor
    _, states, _ = _play(game, lambda obs, key: down, 30, 2)
    lead = states.sim.target[1:] - states.sim.physics.qpos[:-1, :, :D]  # over where it was
    assert np.abs(lead).max() <= 0.2 + 1e-6
    assert np.abs(lead).max() > 0.19
    assert np.asarray(states.metrics['ee_z']).min() > -0.01  # the floor holds


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match=r"reward: expected one of .*found 'dense'"):
        pick.make(pick.Config(reward='dense'))
    with pytest.raises(ValueError, match='backend: expected'):
        pick.make(pick.Config(backend='bullet'))
    assert envs.resolve('pick').expert == pick_expert.__name__


@pytest.mark.slow
@pytest.mark.parametrize(('backend', 'num_dof'), [('mjx', 7), ('native', 6)])
def test_the_expert_succeeds_on_every_arm_and_engine(backend, num_dof):
    config = pick.Config(backend=backend, num_dof=num_dof)
    env = vectorize.vectorize(pick.make(config))
    _, states, _ = _play((jax.jit(env.reset), jax.jit(env.step)), _expert(config), 80, 3)
    assert np.asarray(states.metrics['success'])[-1].mean() >= 0.95
