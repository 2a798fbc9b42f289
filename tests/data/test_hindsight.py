"""Goals in hindsight, on steps that are numbered, so that each goal says which step reached it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import hindsight
from jaxpolicy.types import Goals, Spec, Transition

WORLDS, CAPACITY, HORIZON, GAMMA = 3, 32, 9, 0.9
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))

# obs: world, what was reached (step t begins at t and leads to t + 1), the goal
GOALS = Goals(
    achieved=lambda obs: obs[..., 1:2],
    wanted=lambda obs: obs[..., 2:3],
    replace=lambda obs, goal: obs.at[..., 2:3].set(goal),
    reward=lambda obs: (obs[..., 1] == obs[..., 2]).astype(jnp.float32),
)


# Compiled once for all tests, whose buffers are of one size.
add, follow = jax.jit(buffer_lib.add), jax.jit(buffer_lib.follow, static_argnums=2)
n_step = jax.jit(buffer_lib.n_step, static_argnums=1)
last_of_episode = jax.jit(hindsight.last_of_episode, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def relabelled(buffer, shape, num_steps, share, seed):
    """Places, and their steps [n, *shape] before and after."""
    place_key, key = jax.random.split(jax.random.key(seed))
    places = buffer_lib.draw(buffer, place_key, shape, num_steps)
    steps = buffer_lib.follow(buffer, places, num_steps)
    return places, steps, hindsight.relabel(buffer, places, steps, key, GOALS, share, HORIZON)


@jax.jit
def again(buffer, places, steps, key):
    """All of them get another goal."""
    return hindsight.relabel(buffer, places, steps, key, GOALS, 1.0, HORIZON)


@pytest.fixture(scope='module', params=[20, 32, 75])
def played(request):
    """The buffer after that many steps, and the episode of each step, [T, N]."""
    total, rng = request.param, np.random.default_rng(request.param)
    ended, left = np.zeros((total, WORLDS), bool), rng.integers(1, HORIZON + 1, WORLDS)
    for step in range(total):
        left -= 1
        ended[step] = left == 0
        left = np.where(left == 0, rng.integers(1, HORIZON + 1, WORLDS), left)
    episode = np.cumsum(ended, axis=0) - ended
    world, time = np.meshgrid(np.arange(WORLDS), np.arange(total))
    parts = [np.stack([world, time + i, -1 - episode], axis=-1) for i in (0, 1)]
    obs, next_obs = (np.asarray(x, np.float32) for x in parts)
    terminal = ended & (rng.random(ended.shape) < 0.5)
    extras = {'valid': np.ones((total, WORLDS), np.float32)}
    reward = np.full((total, WORLDS), -5.0, np.float32)  # what no goal gives
    action = np.zeros((total, WORLDS, 1), np.float32)
    rows = (obs, action, reward, terminal, ended & ~terminal, next_obs)
    batch, buffer = Transition(*rows, extras), buffer_lib.make(SPEC, WORLDS, CAPACITY)
    for begin in range(0, total, 5):
        part = jax.tree.map(lambda x, begin=begin: x[begin : begin + 5], batch)
        buffer = add(buffer, part)
    return buffer, episode


def _relabel(buffer, shape, num_steps, share):
    """Places, and their steps [n, *shape] before and after, as numbers of NumPy."""
    return jax.device_get(relabelled(buffer, shape, num_steps, share, 0))


def _future(places, steps):
    """The step that reached the new goal, [*shape]."""
    return np.asarray(steps.next_obs[0, ..., 2]).astype(int) - 1, np.asarray(places.time)


def test_how_far_episodes_go_on(played):
    buffer, episode = played
    total = len(episode)
    times = np.arange(max(total - CAPACITY, 0), total)
    time = np.tile(times, (WORLDS, 1))
    # the newest steps as often as it takes for one shape
    padded = np.pad(time, ((0, 0), (0, CAPACITY - len(times))), 'edge').astype(np.int32)
    world = np.broadcast_to(np.arange(WORLDS, dtype=np.int32)[:, None], padded.shape)
    found = last_of_episode(buffer, buffer_lib.Places(world, padded), HORIZON)
    found = np.asarray(found)[:, : len(times)]
    wanted = [[(episode[t:, w] == episode[t, w]).sum() - 1 for t in times] for w in range(WORLDS)]
    np.testing.assert_array_equal(found, wanted)
    assert 0 < np.max(wanted) < HORIZON


def test_goals_are_what_the_same_episode_reached_later(played):
    buffer, episode = played
    places, _, steps = _relabel(buffer, (20, 100), 1, 1.0)
    future, now = _future(places, steps)
    world = np.asarray(places.world)
    assert (future >= now).all() and (future < len(episode)).all()
    np.testing.assert_array_equal(episode[future, world], episode[now, world])
    np.testing.assert_array_equal(steps.obs[..., 2], steps.next_obs[..., 2])
    np.testing.assert_array_equal(steps.reward[0], future == now)
    assert 0.1 < np.mean(steps.reward) < 0.9
    np.testing.assert_array_equal(steps.obs[0, ..., 0], world)  # the rest stays
    np.testing.assert_array_equal(steps.obs[0, ..., 1], now)


def test_later_steps_are_drawn_uniformly(played):
    buffer, _ = played
    num = 3000
    time = np.full(num, int(buffer.count[0]) - 18, np.int32)
    places = buffer_lib.Places(np.zeros(num, np.int32), time)
    left = int(last_of_episode(buffer, places, HORIZON)[0])
    steps = again(buffer, places, follow(buffer, places, 1), jax.random.key(0))
    future, now = _future(places, steps)
    values, counts = np.unique(future - now, return_counts=True)
    assert values.tolist() == list(range(left + 1))
    np.testing.assert_allclose(counts / num, 1 / (left + 1), atol=0.04)


def test_no_share_changes_nothing(played):
    buffer, _ = played
    _, *both = _relabel(buffer, (4, 50), 3, 0.0)
    before, after = (n_step(steps, GAMMA) for steps in both)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_a_share_of_the_samples_is_relabelled(played):
    buffer, _ = played
    _, before, after = _relabel(buffer, (40, 100), 2, 0.8)
    changed = np.asarray(after.reward != before.reward)
    np.testing.assert_array_equal(changed[0], changed[1])  # a window keeps one goal
    np.testing.assert_array_equal(after.obs[0, ..., 2], after.obs[1, ..., 2])
    assert changed[0].mean() == pytest.approx(0.8, abs=0.03)
    assert changed[0].mean(axis=1).std() > 0.0  # drawn for each sample
    # the others keep rewards and goals, up to where their episode ends
    kept = ~changed[0]
    np.testing.assert_array_equal(after.reward[:, kept], -5.0)
    np.testing.assert_array_equal(after.obs[0][kept], before.obs[0][kept])
    np.testing.assert_array_equal(after.next_obs[0][kept], before.next_obs[0][kept])


@pytest.mark.parametrize('num_steps', [1, 3, 5])
def test_n_step_returns_are_those_of_the_new_goal(played, num_steps):
    """One reward of 1 on the step that reached the goal, if it is among them: gamma^i."""
    buffer, episode = played
    places, _, steps = _relabel(buffer, (10, 100), num_steps, 1.0)
    batch = n_step(steps, GAMMA)
    future, now = _future(places, steps)
    wanted = np.where(future - now < num_steps, GAMMA ** (future - now), 0.0)
    np.testing.assert_allclose(batch.reward, wanted, rtol=1e-5)
    assert (wanted == 0).any() == (num_steps < 5 or (future - now).max() >= 5)
    np.testing.assert_array_equal(batch.obs[..., 2], future + 1)
    np.testing.assert_array_equal(batch.next_obs[..., 2], future + 1)
    # where the window ends has not changed
    same = n_step(follow(buffer, places, num_steps), GAMMA)
    np.testing.assert_array_equal(batch.next_obs[..., :2], same.next_obs[..., :2])
    np.testing.assert_array_equal(batch.extras['discount'], same.extras['discount'])
    np.testing.assert_array_equal(batch.termination, same.termination)
