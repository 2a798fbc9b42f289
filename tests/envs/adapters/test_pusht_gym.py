import builtins

import jax
import numpy as np
import pytest

from jaxpolicy.data.formats import pusht_zarr
from jaxpolicy.envs.adapters import pusht_gym


@pytest.fixture(scope='module')
def real(data_dir):
    path = data_dir / 'pusht' / 'pusht_cchi_v7_replay.zarr'
    if not path.is_dir():
        pytest.skip(f'no human demonstrations: {path} is not a folder')
    return path


@pytest.fixture
def gym_pusht():
    return pytest.importorskip('gym_pusht.envs.pusht', reason='needs the extra pusht')


def read_episodes(path, obs):
    """[(obs, action)] of each human episode."""
    episodes = pusht_zarr.load(path, obs=obs)
    parts = episodes.episode_ends[:-1]
    pairs = zip(np.split(episodes.obs, parts), np.split(episodes.action, parts), strict=True)
    return list(pairs)


def set_recorded_state(sim, state):
    """Angle first, then position, at rest, then one 0.01 s step."""
    sim._setup()
    sim.agent.position = state[:2].tolist()
    sim.block.angle = float(state[4])
    sim.block.position = state[2:4].tolist()
    sim.agent.velocity = sim.block.velocity = (0.0, 0.0)
    sim.block.angular_velocity = 0.0
    sim.space.step(sim.dt)


def replay(sim, states, actions):
    """The states [T - 1, 5] and coverages [T] that a human episode's actions lead to."""
    set_recorded_state(sim, states[0].astype(float))
    outcomes = [sim.step((action.astype(float) + 1) * 256) for action in actions]
    return np.stack([o[0] for o in outcomes])[:-1], np.array([o[4]['coverage'] for o in outcomes])


def test_recorded_actions_bring_back_the_recorded_states(gym_pusht, real):
    sim = gym_pusht.PushTEnv(obs_type='state')
    errors = []
    for states, actions in read_episodes(real, 'state')[:206:20]:
        replayed, _ = replay(sim, states, actions)
        errors.append(np.abs(replayed[:, :4] - states[1:, :4]).max(1))
    assert len(errors) == 11
    assert np.median(np.concatenate(errors)) < 1e-4  # px; measured 1e-5


@pytest.mark.slow
def test_what_the_humans_scored(gym_pusht, real):
    sim = gym_pusht.PushTEnv(obs_type='state')
    best = [replay(sim, *episode)[1].max() for episode in read_episodes(real, 'state')]
    score = pusht_gym.coverage_metrics(np.array(best))['score']
    assert np.mean(best) == pytest.approx(0.90, abs=0.005)
    assert score.mean() == pytest.approx(0.948, abs=0.002)


def test_keypoints_are_the_fit_to_the_data(real):
    points = pusht_zarr.load(real, obs='keypoints').obs[:, :18].reshape(-1, 9, 2).astype(float)
    state = pusht_zarr.load(real, obs='state').obs.astype(float)
    cos, sin = np.cos(state[:, 4, None]), np.sin(state[:, 4, None])
    x, y = np.moveaxis(points - state[:, None, 2:4], -1, 0)
    local = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)  # [n, 9, 2]
    fit = np.median(local, axis=0)
    np.testing.assert_allclose(pusht_gym.BLOCK_KEYPOINTS, fit, atol=1e-4)
    computed = pusht_gym.keypoints_from_state(state)
    np.testing.assert_allclose(computed[:, 18:], state[:, :2], atol=1e-9)
    residual = np.linalg.norm(computed[:, :18].reshape(-1, 9, 2) - points, axis=-1).max(1)
    assert np.median(residual) < 1e-4
    assert (residual < 1e-3).sum() == pytest.approx(19_648, abs=200)
    assert residual.max() < 2.3


def test_initial_states_are_the_protocols():
    # Drawn one after another from numpy's legacy generator, by hand.
    random = np.random.RandomState(100_000)
    expected = [random.randint(50, 450) for _ in range(2)]
    expected += [random.randint(100, 400) for _ in range(2)]
    expected += [random.randn() * 2 * np.pi - np.pi]
    np.testing.assert_array_equal(pusht_gym.initial_state(100_000), expected)
    pinned = [235.0, 124.0, 335.0, 128.0, -0.9049274284249247]
    np.testing.assert_allclose(pusht_gym.initial_state(100_000), pinned, rtol=1e-9)


def test_reset_sets_position_then_angle(gym_pusht):
    env = pusht_gym.make_host(pusht_gym.Config(obs='state'))
    obs = env.reset([100_000, 100_001])
    assert obs.dtype == np.float32 and obs.shape == (2, *env.spec.obs.shape)
    start = pusht_gym.initial_state(100_000)
    np.testing.assert_allclose(obs[0, :2], start[:2])
    np.testing.assert_allclose(obs[0, 4], start[4] % (2 * np.pi), rtol=1e-6)
    # The angle turns the block about its centre of mass (0, 45), which moves its origin.
    cos, sin = np.cos(start[4]), np.sin(start[4])
    centre = start[2:4] + np.array([0, 45])
    np.testing.assert_allclose(obs[0, 2:4], centre - 45 * np.array([-sin, cos]), atol=1e-3)


def test_steps_are_gym_pushts_own(gym_pusht):
    env = pusht_gym.make_host(pusht_gym.Config(obs='keypoints'))
    seeds = [100_000, 100_007]
    assert env.reset(seeds).shape == (2, 20)
    sims = [gym_pusht.PushTEnv(obs_type='state') for _ in seeds]
    for sim, seed in zip(sims, seeds, strict=True):
        sim.reset(options={'reset_to_state': pusht_gym.initial_state(seed)})
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2, 2)).astype(np.float32)
    for action in actions:
        obs, reward, termination, metrics = env.step(action)
        for i, sim in enumerate(sims):
            state, score, _, _, info = sim.step((action[i].astype(float) + 1) * 256)
            expected = pusht_gym.keypoints_from_state(state[None])[0]
            np.testing.assert_array_equal(obs[i], expected.astype(np.float32))
            assert reward[i] == metrics['score'][i] == np.float32(score)
            assert metrics['coverage'][i] == np.float32(info['coverage'])
            assert not termination[i] and metrics['success'][i] == 0


def test_an_episode_ends_above_95_percent_and_stays_there(gym_pusht, monkeypatch):
    # A simulator whose resets put the block on the target.
    solved = np.array([100.0, 100.0, 256.0, 256.0, np.pi / 4])
    monkeypatch.setattr(
        gym_pusht.PushTEnv, '_set_state', lambda sim, state: set_recorded_state(sim, solved)
    )
    env = pusht_gym.make_host(pusht_gym.Config(obs='state'))
    env.reset([0])
    obs, reward, termination, metrics = env.step(np.full((1, 2), -0.5))
    assert termination[0] and reward[0] == 1
    assert metrics['success'][0] == 1 and metrics['score'][0] == 1 and metrics['coverage'][0] > 0.99
    after, reward, termination, again = env.step(np.full((1, 2), 0.5))
    np.testing.assert_array_equal(after, obs)
    assert termination[0] and reward[0] == 0
    assert again == metrics
    env.reset([0])
    assert env.step(np.full((1, 2), -0.5))[1][0] == 1


def test_render_and_bad_input(gym_pusht):
    env = pusht_gym.make_host(pusht_gym.Config(render_size=96))
    env.reset([1, 2])
    env.step(np.zeros((2, 2)))
    image = env.render(1)
    assert image.shape == (96, 96, 3) and image.dtype == np.uint8
    assert not np.array_equal(image, env.render(0))
    with pytest.raises(ValueError, match=r'action: expected shape \[2, 2\], found \[3, 2\]'):
        env.step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r'found .*nan.* in row 1'):
        env.step(np.array([[0.0, 0.0], [0.0, np.nan]]))
    with pytest.raises(ValueError, match="obs: expected 'keypoints' or 'state', found 'pixels'"):
        pusht_gym.make_host(pusht_gym.Config(obs='pixels'))
    with pytest.raises(ValueError, match='render_size: expected at least 96 px, found 64'):
        pusht_gym.make_host(pusht_gym.Config(render_size=64))


def test_a_missing_simulator_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith('gym_pusht'):
            raise ModuleNotFoundError("No module named 'gym_pusht'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match=r"pip install 'gym-pusht==0\.1\.8' 'pymunk<7'"):
        pusht_gym.make_host(pusht_gym.Config())


def test_a_new_pymunk_is_refused(gym_pusht, monkeypatch):
    import pymunk

    monkeypatch.setattr(pymunk, 'version', '7.0.1')
    with pytest.raises(ImportError, match=r'needs pymunk < 7, found 7\.0\.1'):
        pusht_gym.make_host(pusht_gym.Config())


def test_the_spec_is_what_reset_gives(gym_pusht):
    for obs in ('keypoints', 'state'):
        env = pusht_gym.make_host(pusht_gym.Config(obs=obs))
        shape = jax.eval_shape(lambda x: x, env.reset([5])[0])
        assert shape.shape == env.spec.obs.shape and shape.dtype == env.spec.obs.dtype
