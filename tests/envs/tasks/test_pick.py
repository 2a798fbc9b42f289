# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type, and MuJoCo has no type stubs.)
"""Pick: the scripted expert proves that the cube can be held; the rules of the task."""

from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np
import pytest

from jaxpolicy import envs, types
from jaxpolicy.envs.physics import arm, gripper
from jaxpolicy.envs.tasks import pick, pick_expert
from jaxpolicy.envs.wrap import auto_reset, randomize, time_limit, vectorize
from tests.envs import seen

NUM = 64
D = 7
LIMIT = 100  # steps of an episode, so that none of those below ends before its last one

ENTRIES = {
    'weight': ('body_mass+body_inertia', 'scale', 'uniform', 0.5, 2.0, 'cube'),
    'grip': ('pair_friction', 'scale', 'uniform', 0.5, 1.5),
    'gain': ('env.action_scale', 'scale', 'uniform', 0.5, 1.5),
}


class Game(NamedTuple):
    """NUM worlds, compiled once; their episodes differ in what is drawn for them."""

    reset: Any  # seed -> states
    step: Any  # (states, actions) -> states, with automatic resets to states of the pool
    pool: types.EnvState
    plain: dict[str, jax.Array]  # the overrides that change nothing


@pytest.fixture(scope='module')
def game():
    config = pick.Config(backend='native')
    env = pick.make(config, randomize.drawer(randomize.parse(ENTRIES)))
    env = vectorize.vectorize(time_limit.time_limit(env, LIMIT))
    no_pool: Any = None
    start = jax.jit(auto_reset.auto_reset(env, no_pool).reset)

    def reset(seed):
        return start(jax.random.split(jax.random.key(seed), NUM))

    pool, model = reset(100), gripper.make_model(D)
    plain = {name: getattr(model, name) for name in ('body_mass', 'body_inertia', 'pair_friction')}
    plain['env.action_scale'] = np.asarray(config.action_scale)
    plain = {name: np.tile(np.float32(x), (NUM, *[1] * x.ndim)) for name, x in plain.items()}
    plain = jax.device_put(plain)
    return Game(reset, jax.jit(auto_reset.auto_reset(env, pool).step), pool, plain)


def _stack(states):
    """The states [T, N], without their keys and the time limit's count."""
    states = jax.device_get([s.replace(key=(), sim=s.sim.inner) for s in states])
    return jax.tree.map(lambda *x: np.stack(x), *states)


def _play(game, act, num_steps, seed):
    """First states [N], states [T, N] and actions [T, N, A], where nothing is drawn."""
    state = game.reset(seed)
    inner = state.sim.inner.replace(overrides=game.plain)
    state = state.replace(sim=state.sim.replace(inner=inner))
    states, actions = [state], []
    for t in range(num_steps):
        actions.append(jax.device_put(act(state.obs, jax.random.key(1000 * (seed + 1) + t))))
        states.append(state := game.step(state, actions[-1]))
    states = _stack(states)
    first, states = (jax.tree.map(lambda x, s=s: x[s], states) for s in (0, slice(1, None)))
    return first, states, np.stack(actions)


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
    rng = np.random.default_rng(1)

    def act(obs, key):
        return rng.uniform(-1, 1, (NUM, D + 1)).astype(np.float32)

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
    model = mujoco.MjModel.from_xml_string(arm.mjcf(D))  # the gripper leaves the arm as it was
    data = mujoco.MjData(model)
    for i in range(NUM):
        data.qpos[:] = qpos[i, :D]
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site('ee').xpos, ee[i], atol=1e-5)
        np.testing.assert_allclose(data.site('ee').xmat[2::3], rest[i, 6:9], atol=1e-5)
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
def drawn_episodes(game):
    """The end of one episode after five steps, and the whole of the next; states [T, N]."""
    state = game.reset(200)
    late = np.full((NUM,), LIMIT - 5, np.int32)
    states = [state.replace(sim=state.sim.replace(count=jax.device_put(late)))]
    action = jax.device_put(np.ones((NUM, D + 1), np.float32))
    for _ in range(5 + LIMIT):
        states.append(game.step(states[-1], action))
    return _stack(states)


def test_episodes_follow_each_other_at_the_time_limit(game, drawn_episodes):
    states = drawn_episodes
    assert not states.termination.any()
    ended = np.isin(np.arange(6 + LIMIT), (5, 5 + LIMIT))
    np.testing.assert_array_equal(states.truncation, np.tile(ended[:, None], NUM))
    assert game.step._cache_size() == 1


def test_what_an_episode_draws_stays_with_it_until_the_next(game, drawn_episodes):
    sim, pool = drawn_episodes.sim, game.pool.sim.inner.overrides
    assert len(np.unique(sim.overrides['body_mass'][0, :, -1])) == NUM
    assert set(sim.overrides) == {'body_mass', 'body_inertia', 'pair_friction', 'env.action_scale'}
    for name, drawn in sim.overrides.items():
        np.testing.assert_array_equal(drawn[1:5], np.stack([drawn[0]] * 4))
        np.testing.assert_array_equal(drawn[6 : 5 + LIMIT], np.stack([drawn[5]] * (LIMIT - 1)))
        for new in (drawn[5], drawn[5 + LIMIT]):  # each start of the pool brings its own draw
            assert np.isin(new, pool[name]).all()
    scale = sim.overrides['env.action_scale']
    assert len(np.unique(scale[0])) == NUM and (scale[5] != scale[0]).all()
    for t in (0, 5):
        moved = sim.target[t + 1] - sim.target[t]
        np.testing.assert_allclose(moved[:, 0], scale[t], rtol=1e-4)


def test_joint_targets_do_not_wind_up(game):
    down = np.zeros((NUM, D + 1), np.float32)
    down[:, 1] = 1.0  # into the floor
    _, states, _ = _play(game, lambda obs, key: down, 30, 2)
    lead = states.sim.target[1:] - states.sim.physics.qpos[:-1, :, :D]  # over where it was
    assert np.abs(lead).max() <= 0.2 + 1e-6
    assert np.abs(lead).max() > 0.19
    assert np.asarray(states.metrics['ee_z']).min() > -0.01  # the floor holds


def test_pictures_show_the_goal(episode):
    task, first = envs.resolve('pick'), jax.tree.map(lambda x: x[:1], episode[0])
    seen.goal(task, task.config, first)


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
    env, act = vectorize.vectorize(pick.make(config)), _expert(config)
    state, step = jax.jit(env.reset)(jax.random.split(jax.random.key(3), NUM)), jax.jit(env.step)
    for t in range(80):
        state = step(state, act(state.obs, jax.random.key(t)))
    assert np.asarray(state.metrics['success']).mean() >= 0.95
