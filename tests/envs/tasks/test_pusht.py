# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""Push-T on the device against the recorded human episodes, gym-pusht, pymunk and shapely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.pusht_replay import __main__ as pusht_replay
from jaxpolicy import envs
from jaxpolicy.data.formats import pusht_zarr
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.envs.physics import polygons, rigid2d, shapes2d
from jaxpolicy.envs.tasks import pusht
from jaxpolicy.envs.wrap import time_limit
from tests.envs import seen

TARGET = np.float32([*pusht.GOAL])


@pytest.fixture(scope='module')
def real(data_dir):
    path = data_dir / 'pusht' / 'pusht_cchi_v7_replay.zarr'
    if not path.is_dir():
        pytest.skip(f'no human demonstrations: {path} is not a folder')
    return pusht_zarr.load(path, obs='state')


@pytest.fixture(scope='module')
def gym_pusht():
    return pytest.importorskip('gym_pusht.envs.pusht', reason='needs the extra pusht')


# One program for most tests: 60 steps of 16 episodes, with the shaped reward.
CONFIG = pusht.Config(obs='state', reward='shaped')
ENV = pusht.make(CONFIG)


@jax.jit
def restore(recorded):
    """One after another, which compiles faster than a batch."""
    return jax.lax.map(lambda row: pusht.restore(CONFIG, row, jax.random.key(0)), recorded)


@jax.jit
def run(states, actions):
    """The states [60, 16] after each of 60 actions."""

    def step(state, action):
        state = jax.vmap(ENV.step)(state, action)
        return state, state

    return jax.lax.scan(step, states, actions)[1]


def play(recorded, targets):
    """run, of up to 16 states [5] and targets in px that stay the same, or one per step."""
    recorded = np.resize(np.float32(recorded), (16, 5))
    actions = np.resize(np.float32(targets) / 256 - 1, (60, 16, 2))
    states = restore(recorded)
    return states, jax.device_get(run(states, actions).replace(key=None))


def take(episodes, indices):
    """Some of the episodes."""
    ends = np.asarray(episodes.episode_ends)
    starts = np.concatenate([[0], ends[:-1]])
    rows = np.concatenate([np.arange(starts[i], ends[i]) for i in indices])
    lengths = np.cumsum([ends[i] - starts[i] for i in indices])
    return episodes._replace(
        obs=episodes.obs[rows], action=episodes.action[rows], episode_ends=lengths
    )


def test_human_episodes_come_back(real):
    table = pusht_replay.replay(take(real, range(0, 206, 26)))
    assert table['episodes'] == 8
    errors = table['errors']
    assert errors['end']['agent']['1'] < 1e-3  # px; measured 1e-4
    assert errors['end']['block']['0.5'] < 2e-3
    assert errors['all']['block']['1'] < 0.05
    assert errors['all']['angle']['1'] < 1e-3
    assert errors['one step']['block']['0.99'] < 1e-3


@pytest.mark.slow
def test_all_human_episodes_come_back_with_their_score(real):
    table = pusht_replay.replay(real)
    assert table['human_score'] == pytest.approx(0.9466, abs=0.001)  # gym-pusht: 0.94658
    assert table['human_coverage'] == pytest.approx(0.8995, abs=0.001)  # gym-pusht: 0.89954
    end, every = table['errors']['end']['block'], table['errors']['all']['block']
    assert end['0.5'] < 1e-3 and end['0.95'] < 0.01 and end['1'] < 20.0  # px
    assert every['0.95'] < 0.01
    assert table['errors']['one step']['block']['0.99'] < 1e-3


def test_random_policies_from_the_protocols_seeds_match_gym_pusht(gym_pusht):
    seeds, num_steps = range(100_000, 100_016), 60
    rng = np.random.default_rng(0)
    held = rng.uniform(-0.8, 0.8, (num_steps // 6, len(seeds), 2)).astype(np.float32)
    actions = np.repeat(held, 6, axis=0)  # each target for 0.6 s
    begin = jax.vmap(lambda drawn: pusht.start(CONFIG, drawn, jax.random.key(0)))
    states = jax.jit(begin)(pusht.protocol_states(seeds))
    then = jax.device_get(run(states, actions).replace(key=None))
    found, metrics = then.obs, then.metrics

    host = pusht_gym.make_host(pusht_gym.Config(obs='state'))
    np.testing.assert_allclose(states.obs, host.reset(seeds), atol=2e-4)
    error, covered = np.zeros((num_steps, len(seeds))), np.zeros((num_steps, len(seeds)))
    moved = np.zeros(len(seeds))
    for t in range(num_steps):
        obs, _, _, host_metrics = host.step(actions[t])
        np.testing.assert_allclose(found[t, :, :2], obs[:, :2], atol=1e-3)
        error[t] = np.linalg.norm(found[t, :, 2:4] - obs[:, 2:4], axis=-1)
        covered[t] = np.abs(metrics['coverage'][t] - host_metrics['coverage'])
        moved = np.maximum(moved, np.linalg.norm(obs[:, 2:4] - states.obs[:, 2:4], axis=-1))
    assert np.median(moved) > 20  # px: the policies do push
    # The rest is where the agent crushes the block, see the module's docstring.
    assert np.median(error[-1]) < 1e-2 and (error.max(0) < 0.1).mean() > 0.7
    assert np.median(covered.max(0)) < 1e-4


def test_a_block_in_the_walls_comes_out_as_in_pymunk():
    pymunk = pytest.importorskip('pymunk', reason='needs the extra pusht')
    rng = np.random.default_rng(1)
    count, num_steps = 48, 30
    far = np.float32([[255.0] * count] * 2)
    pose = rng.uniform(0, 511, (count, 3)).astype(np.float32)
    pose[np.arange(count), rng.integers(0, 2, count)] = rng.choice([60, 70, 450, 440], count)
    pose[:, 2] = rng.uniform(-np.pi, np.pi, count)
    pose[::3, 2] = rng.choice([0, np.pi / 2, np.pi, -np.pi / 2], len(pose[::3]))  # flat
    pose[:6, :2] = [[40, 40], [40, 470], [470, 470], [470, 40], [35, 50], [480, 450]]  # corners
    pose[:, :2] = np.clip(pose[:, :2], 35, 476)
    far[:, :] = np.where(np.hypot(*(pose.T[:2] - 255)) < 150, 2000.0, far)  # out of the way

    @jax.jit
    def settled(*start):
        world = rigid2d.start(*start)
        return jax.lax.fori_loop(0, num_steps, lambda _, w: rigid2d.step(w), world)

    world = settled(far, pose.T)
    expected = np.stack([settle(pymunk, p, num_steps) for p in pose.astype(float)])
    error = np.abs(np.asarray(world.pose).T - expected).max(1)
    assert (np.abs(expected - pose).max(1) > 0.1).mean() > 0.5  # most did overlap
    assert np.median(error) < 1e-3
    assert (error < 1e-2).mean() > 0.9  # in a corner the order of the walls matters


def settle(pymunk, pose, num_steps):
    """Where pymunk puts a block that starts at rest at a pose (centre of mass, angle)."""
    space = pymunk.Space()
    space.damping = 0.0
    ends = [((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506))]
    space.add(*(pymunk.Segment(space.static_body, *pair, 2) for pair in ends))
    body = pymunk.Body(1.0, 3000.0)
    parts = [
        [(-60, 0), (60, 0), (60, 30), (-60, 30)],
        [(-15, 30), (-15, 120), (15, 120), (15, 30)],
    ]
    body.center_of_gravity = (0.0, 45.0)
    space.add(body, *(pymunk.Poly(body, part) for part in parts))
    body.angle = pose[2]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    body.position = (pose[0] + 45 * sin, pose[1] - 45 * cos)
    for _ in range(num_steps):
        space.step(0.01)
    return np.array([*body.local_to_world((0.0, 45.0)), body.angle])


def corners(x, y, angle):
    """The two rectangles of a T with its origin there, [2, 4, 2]."""
    boxes = shapes2d.BOXES + np.tile(shapes2d.CENTRE_OF_MASS, 2)
    local = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return local @ turn + np.array([x, y])


def test_coverage_is_the_area_that_shapely_finds():
    geometry = pytest.importorskip('shapely.geometry', reason='comes with the extra pusht')
    rng = np.random.default_rng(0)
    near = TARGET + rng.normal(size=(60, 3)) * [5, 5, 0.1]
    axis_parallel = TARGET + np.array([[3.0, 4.0, 0.0], [0.0, 0.0, np.pi / 2], [0.0, 0.0, np.pi]])
    states = np.concatenate([rng.uniform([150, 150, -4], [350, 350, 4], (60, 3)), near])
    states = np.concatenate([states, axis_parallel, TARGET[None], [[60.0, 60.0, 1.0]]])
    target = [geometry.Polygon(part) for part in corners(*pusht.GOAL)]
    expected = [
        sum(a.intersection(geometry.Polygon(b)).area for a in target for b in corners(*state))
        for state in states
    ]
    recorded = np.float32(np.concatenate([np.zeros((len(states), 2)), states], axis=1))
    found = jax.jit(lambda x: pusht.coverage(jax.vmap(pusht.pose_of, out_axes=-1)(x)))(recorded)
    np.testing.assert_allclose(found, np.array(expected) / 6300, atol=1e-5)
    assert found[-2] == pytest.approx(1.0, abs=1e-5) and found[-1] == 0.0


def test_box_overlap_by_hand():
    overlap = jax.jit(polygons.box_overlap)
    corners = np.float32([[0, 0], [2, 0], [2, 2], [0, 2]]).T[:, :, None]  # of a square
    shift = np.float32([0, 1, 3])  # along x
    area = overlap(corners[0] + shift, corners[1] + 0 * shift, 2.0, 2.0)
    np.testing.assert_allclose(area, [4.0, 2.0, 0.0])
    diamond = np.float32([[0, 1, 0, -1], [-1, 0, 1, 0]])
    assert float(overlap(*diamond, 9.0, 9.0)) == pytest.approx(0.5)


def test_the_agent_pushes_and_the_walls_hold():
    recorded = [300.0, 150.0, 300.0, 256.0, 0.0]  # above the middle of the bar
    states, then = play(recorded, [300.0, 300.0])
    np.testing.assert_allclose(states.obs[0], recorded, atol=1e-4)
    np.testing.assert_allclose(then.obs[-1, 0, 2:4], [300, 300 + 15], atol=0.5)
    _, then = play(recorded, [300.0, 372.0])  # 3 px too far
    lowest = corners(*then.obs[-1, 0, 2:]).reshape(-1, 2)[:, 1].max()
    assert 503.0 < lowest < 508.0
    _, then = play(recorded, recorded[:2])
    np.testing.assert_allclose(then.obs[-1, 0], recorded, atol=1e-4)


def test_metrics_and_the_end_are_the_protocols():
    solved = np.array([60.0, 60.0, *TARGET])
    states, then = play([solved, solved + np.array([0, 0, 8.0, 0, 0])], [60.0, 60.0])
    assert not states.metrics['coverage'].any()  # starts do not count
    assert not states.termination.any()
    np.testing.assert_array_equal(then.termination[0, :2], [True, False])
    assert not then.truncation.any()
    for name, value in pusht_gym.coverage_metrics(then.metrics['coverage']).items():
        np.testing.assert_allclose(then.metrics[name], value, rtol=1e-6)
    np.testing.assert_allclose(then.metrics['score'][0, :2], [1.0, 0.87], atol=0.05)


def test_the_shaped_reward_pays_for_progress_alone():
    recorded = np.array([[150.0, 271.0, 300.0, 256.0, 0.0], [60.0, 60.0, *TARGET]])
    targets = np.random.default_rng(0).uniform(200, 300, (60, 16, 2))
    states, then = play(recorded, targets)
    before = np.concatenate([states.sim.potential[None], then.sim.potential[:-1]])
    bonus = CONFIG.success_bonus * then.termination
    np.testing.assert_allclose(then.reward, then.sim.potential - before + bonus, atol=1e-5)
    assert states.sim.potential[1] == pytest.approx(10.0, abs=0.5)
    assert then.termination[0, 1] and np.ptp(then.sim.potential[:, 0]) > 0.1


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)


@pytest.mark.parametrize(('obs', 'size'), [('keypoints', 20), ('state', 5)])
def test_a_step_keeps_every_type(obs, size):
    for reward in ('score', 'shaped'):
        env = pusht.make(pusht.Config(obs=obs, reward=reward))
        first = jax.eval_shape(env.reset, jax.random.key(0))
        then = jax.eval_shape(env.step, first, jnp.zeros(2))
        assert _types(then) == _types(first)
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(first))
        assert first.obs.shape == env.spec.obs.shape == (size,)
        assert all((m.shape, m.dtype) == ((), jnp.float32) for m in first.metrics.values())


def test_batches_of_batches_are_single_worlds_and_compile_once():
    config = pusht.Config()
    env = time_limit.time_limit(pusht.make(config), 3)
    keys = jax.random.split(jax.random.key(3), 6)
    states = jax.jit(lambda keys: jax.lax.map(env.reset, keys))(keys)
    obs = np.asarray(states.obs)
    found = jax.jit(jax.vmap(pusht.state_of))(states)
    expected = pusht_gym.keypoints_from_state(np.asarray(found))
    np.testing.assert_allclose(obs, expected, atol=1e-3)
    agent = obs[:, 18:]
    assert (agent >= 50).all() and (agent < 450).all() and (agent == agent.round()).all()
    step = jax.jit(jax.vmap(jax.vmap(env.step)))
    grid = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), states)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 6, 2)).astype(np.float32)
    for action in actions:
        grid = step(grid, action.reshape(2, 3, 2))
        np.testing.assert_array_equal(grid.reward, grid.metrics['score'])
    assert grid.truncation.all() and step._cache_size() == 1
    same = restore(np.zeros((16, 5), np.float32))
    sim = jax.tree.map(lambda x: jnp.resize(x, (16, *x.shape[1:])), states.sim.inner)
    then = run(same.replace(sim=sim), jnp.zeros((60, 16, 2)).at[:3, :6].set(actions))
    np.testing.assert_allclose(
        grid.sim.inner.world.pose[0, 1], then.sim.world.pose[2, 1], atol=1e-2
    )


def test_pictures_show_target_block_agent_and_walls():
    states = restore(np.resize(np.float32([100.0, 400.0, 380.0, 100.0, 0.3]), (16, 5)))
    frame = pusht.render(CONFIG, states, 128, 128)[0].astype(int)
    share = 512 / 128

    def area(color):
        return (frame == color).all(-1).sum() * share**2

    assert area((144, 238, 144)) == pytest.approx(6300, rel=0.05)
    assert area((119, 136, 153)) == pytest.approx(6300, rel=0.05)
    assert area((65, 105, 225)) == pytest.approx(np.pi * 15**2, rel=0.1)
    rows, columns = np.nonzero((frame == (65, 105, 225)).all(-1))
    np.testing.assert_allclose([columns.mean() * share, rows.mean() * share], [100, 400], atol=4)
    assert area((211, 211, 211)) > 4000
    first = jax.tree.map(lambda x: x[:1], states.replace(key=()))
    seen.goal(envs.resolve('pusht'), CONFIG, first)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="obs: expected 'keypoints' or 'state', found 'pixels'"):
        pusht.make(pusht.Config(obs='pixels'))
    with pytest.raises(ValueError, match="reward: expected 'score' or 'shaped', found 'sparse'"):
        pusht.make(pusht.Config(reward='sparse'))
