"""The ring of transitions: what is stored, what is sampled, and n-step returns against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.data import buffer as buffer_lib
from jaxpolicy.data import demo_buffer
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.types import Spec, Transition

add = jax.jit(buffer_lib.add)
draw = jax.jit(buffer_lib.draw, static_argnums=(2, 3))
follow = jax.jit(buffer_lib.follow, static_argnums=2)
n_step = jax.jit(buffer_lib.n_step, static_argnums=1)
sample = jax.jit(buffer_lib.sample, static_argnums=(2, 3, 4))
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32))
GAMMA = 0.9


def steps(first, length, num_worlds=3, seed=0, ends=0.3, valid=1.0):
    """Steps [T, N] of endless worlds: obs is (world, number of the step, 0); next_obs adds 0.5 at
    the end, where an ended episode would not be followed by the next row's obs.
    """
    rng = np.random.default_rng(seed + first)
    world, time = np.meshgrid(np.arange(num_worlds), np.arange(first, first + length))
    obs = np.stack([world, time, np.zeros_like(time)], axis=-1).astype(np.float32)
    shape = (length, num_worlds)
    termination = rng.random(shape) < ends / 2
    truncation = (rng.random(shape) < ends / 2) & ~termination
    return Transition(
        obs=obs,
        action=rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
        reward=rng.normal(size=shape).astype(np.float32),
        termination=termination,
        truncation=truncation,
        next_obs=obs + np.array([0.0, 0.0, 0.5], np.float32),
        extras={
            'valid': (rng.random(shape) < valid).astype(np.float32),
            'log_prob': rng.random(shape),
        },
        carry=(),
    )


def filled(capacity, lengths, num_worlds=3, **options):
    """The buffer after rollouts of these lengths, and all that was ever added, [T, N]."""
    buffer, added = buffer_lib.make(SPEC, num_worlds, capacity), []
    for length in lengths:
        first = sum(len(batch.reward) for batch in added)
        added.append(steps(first, length, num_worlds, **options))
        buffer = add(buffer, added[-1])
    return buffer, jax.tree.map(lambda *x: np.concatenate(x), *added)


def loop(added, world, time, n):
    """The n-step transition of one place, by hand."""
    total, factor, valid = 0.0, 1.0, 1.0
    for i in range(time, time + n):
        total += factor * added.reward[i, world]
        factor *= GAMMA
        valid = min(valid, added.extras['valid'][i, world])
        if added.termination[i, world] or added.truncation[i, world]:
            break
    return total, factor, valid, i


@pytest.mark.parametrize('n', [1, 3, 5])
def test_n_step_samples_equal_a_loop(n):
    buffer, added = filled(40, (7, 7, 7, 7), ends=0.3, valid=0.8)
    places = draw(buffer, jax.random.key(n), (6, 50), n)
    found = jax.device_get(n_step(follow(buffer, places, n), GAMMA))
    places = jax.device_get(places)
    same = sample(buffer, jax.random.key(n), (6, 50), n, GAMMA)
    jax.tree.map(np.testing.assert_array_equal, found, same)
    lengths = set()
    for index in np.ndindex(6, 50):
        world, time = int(places.world[index]), int(places.time[index])
        total, factor, valid, last = loop(added, world, time, n)
        lengths.add(last - time)
        np.testing.assert_allclose(found.reward[index], total, atol=1e-5)
        np.testing.assert_allclose(found.extras['discount'][index], factor, rtol=1e-6)
        assert found.extras['valid'][index] == valid
        np.testing.assert_array_equal(found.obs[index], added.obs[time, world])
        np.testing.assert_array_equal(found.action[index], added.action[time, world])
        np.testing.assert_array_equal(found.next_obs[index], added.next_obs[last, world])
        assert found.termination[index] == added.termination[last, world]
        assert found.truncation[index] == added.truncation[last, world]
    assert lengths == set(range(n))


@pytest.mark.parametrize('lengths', [(5,) * 9, (1,) * 30, (16, 16, 16), (3, 16, 7, 2, 11)])
def test_no_sample_crosses_the_seam(lengths):
    """The ring is written several times over; windows are consecutive, all of them are drawn."""
    capacity, n = 16, 4
    buffer, added = filled(capacity, lengths, num_worlds=2)
    total = sum(lengths)
    assert total > capacity and int(buffer.count[0]) == total
    places = draw(buffer, jax.random.key(0), (4000,), n)
    window = follow(buffer, places, n)
    time = np.asarray(window.obs[..., 1])
    np.testing.assert_array_equal(np.diff(time, axis=0), 1.0)
    np.testing.assert_array_equal(window.obs[..., 0], np.broadcast_to(places.world, time.shape))
    np.testing.assert_array_equal(time[0], places.time)
    np.testing.assert_array_equal(window.reward[0], added.reward[places.time, places.world])
    expected = np.arange(total - capacity, total - n + 1)
    values, counts = np.unique(time[0], return_counts=True)
    np.testing.assert_array_equal(values, expected)
    assert counts.min() > 0.7 * 4000 / len(expected)  # uniformly
    assert counts.max() < 1.3 * 4000 / len(expected)


def test_what_is_not_written_yet_is_not_drawn():
    buffer, _ = filled(100, (3, 2), num_worlds=2)
    places = draw(buffer, jax.random.key(0), (500,), 3)
    assert set(np.unique(places.time)) == {0, 1, 2}
    exact = draw(buffer, jax.random.key(0), (50,), 5)
    assert set(np.unique(exact.time)) == {0}


def test_the_last_next_obs_of_an_episode_is_true():
    """It is stored, and not read from the next row, which begins another episode."""
    buffer, added = filled(30, (30,), ends=0.5)
    found = jax.device_get(sample(buffer, jax.random.key(0), (500,), 1, GAMMA))
    ended = found.termination | found.truncation
    assert 0.3 < ended.mean() < 0.7
    np.testing.assert_array_equal(found.next_obs[:, :2], found.obs[:, :2])
    np.testing.assert_array_equal(found.next_obs[:, 2], 0.5)


def test_only_what_learners_need_is_kept_and_its_size_is_known():
    buffer, _ = filled(16, (4,))
    assert set(buffer.rows.extras) == {'valid'} and buffer.rows.carry == ()
    assert buffer.rows.obs.shape == (3, 16, 3)
    found = sum(leaf.nbytes for leaf in jax.tree.leaves(buffer))
    assert buffer_lib.num_bytes(SPEC, 3, 16) == found
    # obs twice, action, reward and valid in float32, two flags; the count of each world
    assert found == 3 * 16 * (4 * (3 + 3 + 2 + 1 + 1) + 2) + 3 * 4
    pictures = Spec({'image': jax.ShapeDtypeStruct((4, 4, 3), jnp.uint8)}, SPEC.action)
    assert buffer_lib.num_bytes(pictures, 1, 1) == 2 * 48 + 4 * (2 + 1 + 1) + 2 + 4


def _episodes(lengths, terminated):
    rng, rows = np.random.default_rng(0), sum(lengths)
    ends = np.cumsum(lengths).astype(np.int64)
    termination = np.zeros(rows, np.uint8)
    termination[ends[np.asarray(terminated)] - 1] = 1
    return episodes_lib.Episodes(
        obs={'x': rng.normal(size=(rows, 2)).astype(np.float32)},
        action=rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        episode_ends=ends,
        info={},
        reward=rng.normal(size=rows).astype(np.float32),
        termination=termination,
        last_obs={'x': rng.normal(size=(len(lengths), 2)).astype(np.float32)},
    )


def test_demonstrations_become_a_full_buffer():
    episodes = _episodes((3, 1, 4), terminated=[True, False, False])
    buffer = demo_buffer.from_episodes(episodes)
    rows = jax.tree.map(lambda x: np.asarray(x[0]), buffer.rows)
    assert buffer.count.tolist() == [8]
    for name in ('action', 'reward'):
        np.testing.assert_array_equal(getattr(rows, name), getattr(episodes, name))
    assert rows.termination.tolist() == [False, False, True, *[False] * 5]
    assert rows.truncation.tolist() == [False] * 3 + [True] + [False] * 3 + [True]
    obs, last = episodes.obs['x'], episodes.last_obs['x']
    expected = [obs[1], obs[2], last[0], last[1], obs[5], obs[6], obs[7], last[2]]
    np.testing.assert_array_equal(rows.next_obs['x'], np.stack(expected))
    np.testing.assert_array_equal(rows.extras['valid'], 1.0)
    # two steps on from the second one: cut where the first episode ends
    places = buffer_lib.Places(jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
    found = n_step(follow(buffer, places, 4), GAMMA)
    wanted = episodes.reward[1] + GAMMA * episodes.reward[2]
    np.testing.assert_allclose(found.reward, wanted, rtol=1e-6)
    np.testing.assert_array_equal(found.next_obs['x'], last[0])
    assert bool(found.termination)
    # of the sort that a learner's own experience has
    spec = Spec({'x': jax.ShapeDtypeStruct((2,), jnp.float32)}, SPEC.action)
    own = buffer_lib.make(spec, 1, 8)
    assert jax.tree.map(jnp.result_type, own) == jax.tree.map(jnp.result_type, buffer)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, buffer)


@pytest.mark.parametrize('missing', ['reward', 'termination', 'last_obs'])
def test_demonstrations_without_rewards_are_refused(missing):
    episodes = _episodes((3, 1), terminated=[True, False])._replace(**{missing: None})
    with pytest.raises(
        ValueError, match=rf"data.path: expected episodes with .*found no \['{missing}'\]"
    ):
        demo_buffer.from_episodes(episodes)
