"""pendulum and cartpole: against Gymnasium's, by hand, and with all that is put around a task."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.shift import disturbances
from jaxpolicy import envs, types
from jaxpolicy.envs.tasks import cartpole, pendulum
from jaxpolicy.envs.wrap import auto_reset, disturb, time_limit, vectorize
from jaxpolicy.loops import evaluate, rollout
from tests.envs import seen

NAMES = ['cartpole', 'pendulum']
LEFT, RIGHT = np.array([1, 0], np.int8), np.array([0, 1], np.int8)
NUM_ACTIONS = 200


def _make(name):
    task = envs.resolve(name)
    return task.make(task.config)


def _sims(name, obs_like):
    """The task's states from Gymnasium's, rows of theta, thetadot or x, xdot, theta, thetadot."""
    rows = np.asarray(obs_like, np.float32)
    if name == 'pendulum':
        return pendulum.Sim(rows[..., 0], rows[..., 1])
    count = np.zeros(rows.shape[:-1], np.int32)
    return cartpole.Sim(rows[..., 0::2], rows[..., 1::2], count)


class Compiled(NamedTuple):
    """A task's programs for NUM_ACTIONS rows or actions; what is shorter is filled up."""

    firsts: types.EnvState  # [NUM_ACTIONS] fresh states
    steps: Any  # (states [NUM_ACTIONS], actions) -> states, one step later
    run: Any  # (state, actions [NUM_ACTIONS, A]) -> the states after each of them


@functools.cache
def _compiled(name):
    env = _make(name)

    def one(state, action):
        state = env.step(state, action)
        return state, state

    batch = vectorize.vectorize(env)
    return Compiled(
        jax.jit(batch.reset)(jax.random.split(jax.random.key(0), NUM_ACTIONS)),
        jax.jit(batch.step),
        jax.jit(lambda state, actions: jax.lax.scan(one, state, actions)[1]),
    )


def _filled(rows):
    """NUM_ACTIONS rows, of which the first are the given ones."""
    rows = np.asarray(rows)
    return np.resize(rows, (NUM_ACTIONS, *rows.shape[1:]))


def _cut(states, num):
    return jax.tree.map(lambda x: x[:num], jax.device_get(states.replace(key=())))


def _step_from(name, rows, actions):
    """The states after one step from each of the rows [n, ...]."""
    programs = _compiled(name)
    states = programs.firsts.replace(sim=_sims(name, _filled(rows)))
    return _cut(programs.steps(states, _filled(actions)), len(rows))


def _run_from(name, row, actions):
    """The states after each of the actions [T, A], without a limit, from one row."""
    programs = _compiled(name)
    first = jax.tree.map(lambda x: x[0], programs.firsts).replace(sim=_sims(name, row))
    return _cut(programs.run(first, _filled(actions)), len(actions))


def _theirs(task, row, actions):
    """Gymnasium's states before each action, and observations, rewards and ends after it."""
    before, results = [], []
    task.reset(seed=0)
    task.state = np.array(row, np.float64)
    for action in actions:
        before.append(np.array(task.state, np.float64))
        obs, reward, terminated, _, _ = task.step(action)
        results.append((obs, reward, terminated))
        if terminated:  # the rest of the actions goes on from the same start
            task.reset(seed=0)
            task.state = np.array(row, np.float64)
    return np.stack(before), *map(np.stack, zip(*results, strict=True))


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_pendulum_is_gymnasiums(seed):
    gymnasium = pytest.importorskip('gymnasium')
    rng = np.random.default_rng(seed)
    # the whole circle, fast and slow, also more torque than there is
    rows = np.stack(
        [rng.uniform(-np.pi, np.pi, NUM_ACTIONS), rng.uniform(-8, 8, NUM_ACTIONS)], axis=1
    )
    actions = rng.uniform(-1.5, 1.5, (NUM_ACTIONS, 1)).astype(np.float32)
    task = gymnasium.make('Pendulum-v1').unwrapped
    task.reset(seed=0)
    wanted = []
    for row, action in zip(rows, actions, strict=True):
        task.state = row
        wanted.append(task.step(2.0 * action)[:2])
    ours = _step_from('pendulum', rows, actions)
    obs, reward = map(np.stack, zip(*wanted, strict=True))
    np.testing.assert_allclose(ours.obs, obs, atol=1e-5)
    np.testing.assert_allclose(ours.reward, reward, atol=1e-5)
    # and one episode, from the bottom
    _, obs, reward, _ = _theirs(task, [3.0, 0.5], 2.0 * actions)
    ours = _run_from('pendulum', [3.0, 0.5], actions)
    np.testing.assert_allclose(ours.obs, obs, atol=1e-4)
    np.testing.assert_allclose(ours.reward, reward, rtol=1e-4)  # float32, over 200 steps
    assert not np.asarray(ours.termination).any()


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_cartpole_is_gymnasiums(seed):
    gymnasium = pytest.importorskip('gymnasium')
    rng = np.random.default_rng(seed)
    task = gymnasium.make('CartPole-v1').unwrapped
    choices = rng.integers(2, size=NUM_ACTIONS)
    start = rng.uniform(-0.05, 0.05, 4)
    before, obs, reward, terminated = _theirs(task, start, choices)
    actions = np.eye(2, dtype=np.int8)[choices]
    ours = _step_from('cartpole', before, actions)
    np.testing.assert_allclose(ours.obs, obs, atol=1e-5)
    np.testing.assert_array_equal(ours.reward, reward)
    np.testing.assert_array_equal(ours.termination, terminated)
    assert terminated.sum() >= 2
    # and one episode
    length = int(terminated.argmax()) + 1
    ours = _run_from('cartpole', start, actions[:length])
    np.testing.assert_allclose(ours.obs, obs[:length], atol=1e-5)
    np.testing.assert_array_equal(ours.termination, terminated[:length])
    # anywhere, where the two terms that a small angle hides matter
    rows = rng.uniform([-3, -3, -1.5, -5], [3, 3, 1.5, 5], (NUM_ACTIONS, 4))
    wanted = []
    for row, choice in zip(rows, choices, strict=True):
        task.reset(seed=0)
        task.state = row
        wanted.append(task.step(choice)[:3])
    obs, reward, terminated = map(np.stack, zip(*wanted, strict=True))
    ours = _step_from('cartpole', rows, actions)
    np.testing.assert_allclose(ours.obs, obs, atol=1e-5)
    np.testing.assert_array_equal(ours.termination, terminated)
    assert 5 < (~terminated).sum() < 100


@pytest.mark.parametrize('name', NAMES)
def test_a_step_keeps_every_type(name):
    env = _make(name)
    first = jax.eval_shape(env.reset, jax.random.key(0))
    for dtype in (jnp.float32, env.spec.action.dtype):
        then = jax.eval_shape(env.step, first, jnp.zeros(env.spec.action.shape, dtype))
        a, b = (jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (first, then))
        assert a == b
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(first))
    assert (first.obs.shape, first.obs.dtype) == (env.spec.obs.shape, env.spec.obs.dtype)


def test_pendulum_by_hand():
    # hanging still, all of the torque: 2 N m x 3 x 0.05 s = 0.3 rad/s; then upright, turning
    rows = [[-np.pi, 0.0], [0.0, 0.4], [np.pi / 2, 7.9], [0.0, 0.0]]
    state = _step_from('pendulum', rows, [[1.0], [0.0], [0.0], [-3.0]])
    speed = [0.3, 0.4, 8.0, -0.3]  # the third would be 7.9 + 0.05 x 15
    angle = np.array([-np.pi + 0.015, 0.02, np.pi / 2 + 0.4, -0.015])
    np.testing.assert_allclose(state.obs[:, 2], speed, atol=1e-5)
    np.testing.assert_allclose(state.obs[:, 0], np.cos(angle), atol=1e-5)
    np.testing.assert_allclose(state.obs[:, 1], np.sin(angle), atol=1e-5)
    reward = [-(np.pi**2) - 0.004, -0.016, -((np.pi / 2) ** 2) - 6.241, -0.004]
    np.testing.assert_allclose(state.reward, reward, atol=1e-5)
    np.testing.assert_array_equal(state.metrics['success'], [0, 1, 0, 1])


def test_pendulum_neither_gains_nor_loses_energy():
    states = _run_from('pendulum', [2.0, 0.0], np.zeros((NUM_ACTIONS, 1)))
    cos, _, speed = np.asarray(states.obs).T
    energy = speed**2 / 6.0 + 5.0 * cos  # m = l = 1: half of 1/3 thetadot^2, and m g l / 2 cos
    # the integrator is symplectic: its error swings and does not grow, as explicit Euler's does
    assert np.abs(energy - energy.mean()).max() < 0.4
    assert abs(energy[:100].mean() - energy[100:].mean()) < 0.02
    assert np.ptp(speed) > 5.0


def test_cartpole_by_hand():
    """From rest, 10 N: 400/41 m/s^2 and -600/41 rad/s^2; positions follow one step later."""
    state = _step_from('cartpole', np.zeros((2, 4)), np.stack([RIGHT, LEFT]))
    np.testing.assert_allclose(state.obs[0], [0.0, 8 / 41, 0.0, -12 / 41], atol=1e-6)
    np.testing.assert_allclose(state.obs[1], -state.obs[0], atol=1e-6)
    again = _run_from('cartpole', np.zeros(4), np.stack([RIGHT, RIGHT])).obs[1]
    np.testing.assert_allclose(again[0::2], [0.02 * 8 / 41, -0.02 * 12 / 41], atol=1e-7)


def test_cartpole_obeys_its_two_equations_of_motion():
    rng = np.random.default_rng(0)
    rows = rng.uniform([-2, -3, -1.5, -5], [2, 3, 1.5, 5], (50, 4))
    state = _step_from('cartpole', rows, np.tile(RIGHT, (50, 1)))
    theta, rate = rows[:, 2], rows[:, 3]
    xddot, turn = (np.asarray(state.obs)[:, 1::2] - rows[:, 1::2]).T / 0.02
    push = 1.1 * xddot + 0.05 * (turn * np.cos(theta) - rate**2 * np.sin(theta))
    np.testing.assert_allclose(push, 10.0, atol=1e-3)
    balance = 2 / 3 * turn + xddot * np.cos(theta) - 9.8 * np.sin(theta)
    np.testing.assert_allclose(balance, 0.0, atol=1e-3)


def test_cartpole_ends_beyond_its_limits_and_any_dtype_is_an_action():
    edge = np.radians(12.0)
    rows = np.zeros((6, 4))
    rows[:, 0] = [2.39, 2.41, -2.41, 0, 0, 0]
    rows[:, 2] = [0, 0, 0, edge - 1e-3, edge + 1e-3, -edge - 1e-3]
    state = _step_from('cartpole', rows, np.tile(LEFT, (6, 1)))
    np.testing.assert_array_equal(state.termination, [0, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(state.reward, np.ones(6))
    for left, right in (((0.9, 0.1), (0.1, 0.9)), ((5.0, -3.0), (-3.0, 5.0)), ((1, 0), (0, 1))):
        state = _step_from('cartpole', np.zeros((2, 4)), np.array([left, right]))
        np.testing.assert_allclose(state.obs[:, 1], [-8 / 41, 8 / 41], atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_starts_fill_their_documented_ranges(name):
    state = jax.jit(vectorize.vectorize(_make(name)).reset)(
        jax.random.split(jax.random.key(0), 2000)
    )
    sim = state.sim
    if name == 'pendulum':
        found, most = np.stack([sim.qpos, sim.qvel], axis=1), np.array([np.pi, 1.0])
    else:
        found, most = np.concatenate([sim.qpos, sim.qvel], axis=1), np.full(4, 0.05)
    assert (np.abs(found) <= most + 1e-6).all()
    assert (found.max(0) > 0.99 * most).all() and (found.min(0) < -0.99 * most).all()
    np.testing.assert_allclose(found.std(0), most / np.sqrt(3), rtol=0.05)
    assert (np.abs(np.corrcoef(found.T) - np.eye(len(most))) < 0.1).all()


def _random(spec):
    """Actions of the env's own dtype."""

    def act(carry, obs, key):
        if types.is_discrete(spec):
            choice = jax.random.randint(key, (len(obs),), 0, spec.action.shape[0])
            return carry, jax.nn.one_hot(choice, spec.action.shape[0], dtype=spec.action.dtype), {}
        return carry, jax.random.uniform(key, (len(obs), *spec.action.shape), minval=-1.0), {}

    return types.Policy(lambda obs: (), act)


@pytest.mark.parametrize(('name', 'limit'), [('cartpole', 30), ('pendulum', 7)])
def test_episodes_end_and_start_anew(name, limit):
    env = vectorize.vectorize(time_limit.time_limit(_make(name), limit))

    @jax.jit
    def run(key):
        keys = jax.random.split(key, 8)
        auto = auto_reset.auto_reset(env, env.reset(keys))
        return rollout.rollout(auto, _random(env.spec), auto.reset(keys), (), key, 200)

    _, _, batch, metrics = run(jax.random.key(0))
    assert batch.action.shape == (200, 8, *env.spec.action.shape)
    assert batch.action.dtype == env.spec.action.dtype
    assert not np.asarray(metrics['nan_world']).any() and np.asarray(batch.extras['valid']).all()
    termination, truncation = np.asarray(batch.termination), np.asarray(batch.truncation)
    assert truncation.any() and termination.any() == (name == 'cartpole')
    assert not (termination & truncation).any()
    done = (termination | truncation)[:-1]
    ends = np.flatnonzero(done[:, 0])
    assert np.diff(ends).max() <= limit
    if name == 'pendulum':
        assert (np.diff(ends) == limit).all()
    obs, led = np.asarray(batch.obs)[1:], np.asarray(batch.next_obs)[:-1]
    np.testing.assert_array_equal(obs[~done], led[~done])
    most = 0.05 if name == 'cartpole' else np.array([1.0, 1.0, 1.0])
    assert (np.abs(obs[done]) <= most).all() and not np.array_equal(obs[done], led[done])


@pytest.mark.parametrize('name', NAMES)
def test_a_controller_does_the_task(name):
    """Swing up by energy, then hold; push towards where the pole falls."""
    config = envs.resolve(name).config

    def act(carry, obs, key):
        if name == 'cartpole':
            lean = obs @ jnp.array([0.05, 0.1, 1.0, 0.3])
            return carry, jnp.where(lean[:, None] > 0, RIGHT, LEFT), {}
        cos, sin, speed = obs.T
        missing = 5.0 - (speed**2 / 6.0 + 5.0 * cos)
        pump = jnp.sign(speed) * jnp.sign(missing)
        hold = -10.0 * jnp.arctan2(sin, cos) - 2.0 * speed
        return carry, jnp.where(cos > 0.95, hold, pump)[:, None], {}

    env = vectorize.vectorize(time_limit.time_limit(_make(name), config.episode_steps))
    policy = types.Policy(lambda obs: (), act)
    keys = jax.random.split(jax.random.key(0), 64)
    key, num_steps = jax.random.key(1), config.episode_steps
    found, still = jax.device_get(
        jax.jit(
            lambda keys: (
                evaluate.evaluate(env, policy, keys, key, num_steps),
                evaluate.evaluate(env, _random(env.spec), keys, key, 500),
            )
        )(keys)
    )
    assert np.asarray(found['success_final']).mean() >= 0.9
    assert (np.asarray(found['length']) == config.episode_steps).mean() >= 0.9
    worst = {'cartpole': 490.0, 'pendulum': -400.0}[name]
    assert np.asarray(found['return']).mean() > worst
    assert np.asarray(still['success_final']).mean() < 0.1
    if name == 'cartpole':  # a success is a whole episode: it is one at the last step only
        np.testing.assert_allclose(found['success_mean'], (found['length'] == 500) / 500)
        assert not np.asarray(still['success_max']).any()
        np.testing.assert_array_equal(found['success_max'], found['length'] == 500)
        np.testing.assert_array_equal(found['return'], found['length'])


def test_which_actions_are_choices():
    found = {name: types.is_discrete(_make(name).spec) for name in NAMES}
    assert found == {'cartpole': True, 'pendulum': False}


@pytest.mark.parametrize(
    ('wrap', 'name'),
    [
        (lambda env: disturb.apply(env, disturb.Config(action_delay=(0, 2))), 'action_delay'),
        (lambda env: disturbances.late_action(env, 1, 3), 'action_delay'),
        (lambda env: disturbances.noise_action(env, 0.1), 'action_noise'),
        (lambda env: disturbances.hold(env, 2, True), 'relative'),
    ],
)
def test_choices_cannot_be_late_or_noisy(wrap, name):
    with pytest.raises(ValueError, match=f'{name}: expected an env .* found one with 2 choices'):
        wrap(_make('cartpole'))
    wrap(_make('pendulum'))


@pytest.mark.parametrize('name', NAMES)
def test_pushes_and_bad_senses_disturb_it(name):
    config = disturb.Config((0, 0), (1, 3), 0.01, 5, 1.0, (0,))
    env = disturb.apply(_make(name), config)
    env = time_limit.time_limit(disturbances.hold(env, 2, False), 20)
    first = jax.jit(env.reset)(jax.random.key(0))
    then = jax.jit(env.step)(first, jnp.zeros(env.spec.action.shape, env.spec.action.dtype))
    a, b = (jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (first, then))
    assert a == b and float(then.obs[0]) == 0.0 and float(then.metrics['env_steps']) == 2.0


@pytest.mark.filterwarnings('ignore:.*WARN')
@pytest.mark.parametrize('name', NAMES)
def test_through_gymnasium_choices_are_integers(name):
    gymnasium = pytest.importorskip('gymnasium')
    from gymnasium.utils import env_checker

    from jaxpolicy.envs.adapters import gymnasium_vector

    (registered,) = gymnasium_vector.register(name)
    single = gymnasium.make(registered)
    env_checker.check_env(single.unwrapped, skip_render_check=True)
    batch = gymnasium.make_vec(registered, num_envs=3)
    batch.reset(seed=0)
    if name == 'pendulum':
        assert batch.action_space.shape == (3, 1)
        return
    assert single.action_space == gymnasium.spaces.Discrete(2)
    obs = batch.step(np.array([0, 1, 1]))[0]
    assert (np.sign(obs[:, 1]) == [-1, 1, 1]).all()
    with pytest.raises(ValueError, match=r'expected choices in 0\.\.1, found'):
        batch.step(np.array([0, 1, -1]))
    with pytest.raises(ValueError, match=r'expected shape \(3,\), found \(3, 2\)'):
        batch.step(np.zeros((3, 2)))


@pytest.mark.parametrize('name', NAMES)
def test_pictures_follow_the_state(name):
    task = envs.resolve(name)
    module, config = task.module, task.config
    rows = [[1.5, 0], [-1.5, 0]] if name == 'pendulum' else [[-1, 0, 0.5, 0], [-1, 0, -0.5, 0]]
    state = jax.tree.map(lambda x: x[:2], _compiled(name).firsts)
    frames = module.render(config, state.replace(sim=_sims(name, rows)), 60, 100)
    assert frames.shape == (2, 60, 100, 3) and frames.dtype == np.uint8
    seen.goal(task, config, jax.tree.map(lambda x: x[:1], state))
    moving = (frames[..., 2] > frames[..., 0] + 20) & (frames[..., 1] < 200)
    columns = [np.flatnonzero(m.any(0)).mean() for m in moving]
    if name == 'pendulum':  # theta grows counter-clockwise, so upright leans to the left
        assert columns[0] < 40 and columns[1] > 60
    else:  # the cart is left of the middle; the pole leans to the right, then to the left
        assert columns[1] < columns[0] < 45
    assert module.control_hz(config) == pytest.approx({'cartpole': 50, 'pendulum': 20}[name])
