import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data import windows


def make_episodes(lengths, seed=0):
    random = np.random.default_rng(seed)
    rows = sum(lengths)
    return episodes_lib.Episodes(
        obs={
            'position': random.normal(size=(rows, 3)).astype(np.float32),
            'image': random.integers(0, 256, (rows, 2, 2, 3)).astype(np.uint8),
        },
        action=random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        episode_ends=np.cumsum(lengths).astype(np.int64),
        info={},
    )


def by_hand(episodes, to, tp, ta):
    """Diffusion Policy's SequenceSampler, one row at a time."""
    result, start = [], 0
    for end in episodes.episode_ends.tolist():
        length = end - start
        for first in range(-(to - 1), length - tp + (ta - 1) + 1):
            rows = [min(max(first + i, 0), length - 1) + start for i in range(tp)]
            mask = [0 <= first + i < length for i in range(tp)]
            result.append((rows[:to], rows, mask))
        start = end
    return result


@pytest.mark.parametrize(
    ('to', 'tp', 'ta'), [(1, 1, 1), (2, 16, 8), (2, 4, 3), (3, 4, 1), (1, 8, 8), (4, 4, 1)]
)
def test_gather_equals_a_loop(to, tp, ta):
    lengths = np.random.default_rng(tp).integers(1, 30, 12).tolist()
    episodes = make_episodes(lengths)
    expected = by_hand(episodes, to, tp, ta)
    data = windows.make(episodes, to, tp, ta)
    assert windows.num_windows(data) == len(expected)
    chunk = jax.jit(windows.gather)(data, jnp.arange(len(expected)))
    observed, acted, mask = (np.array(column) for column in zip(*expected, strict=True))
    np.testing.assert_array_equal(chunk.obs['position'], episodes.obs['position'][observed])
    np.testing.assert_array_equal(chunk.obs['image'], episodes.obs['image'][observed])
    assert chunk.obs['image'].dtype == jnp.uint8
    np.testing.assert_array_equal(chunk.action, episodes.action[acted])
    np.testing.assert_array_equal(chunk.mask, mask)


def test_the_current_action_belongs_to_the_last_observation():
    rows = np.arange(30, dtype=np.float32)[:, None]
    episodes = episodes_lib.Episodes(rows, rows / 30, np.array([10, 30]), {})
    data = windows.make(episodes, obs_horizon=3, pred_horizon=8, action_horizon=4)
    chunk = windows.gather(data, jnp.arange(windows.num_windows(data)))
    np.testing.assert_allclose(chunk.action[:, 2] * 30, chunk.obs[:, 2], rtol=1e-6)
    assert chunk.mask[:, 2].all()  # the current step is never padding
    # Every row is the current one of some window, but for the last Tp - To - Ta + 1.
    current = np.unique(np.asarray(chunk.obs[:, 2, 0]))
    np.testing.assert_array_equal(current, [*range(0, 8), *range(10, 28)])


def test_gather_takes_any_index_order_and_runs_in_a_scan():
    data = windows.make(make_episodes([20, 9]), 2, 4, 2)
    index = jnp.array([[5, 0, 5], [11, 3, 1]])

    def step(carry, row):
        return carry, windows.gather(data, row).action

    _, action = jax.lax.scan(step, 0, index)
    np.testing.assert_array_equal(action[0, 0], action[0, 2])
    np.testing.assert_array_equal(action[1], windows.gather(data, index[1]).action)


@pytest.mark.parametrize(
    ('horizons', 'message'),
    [
        ((3, 2, 1), 'expected obs_horizon <= pred_horizon, found obs_horizon 3, pred_horizon 2'),
        ((2, 8, 8), 'found 9 > 8'),
        ((0, 8, 4), 'at least 1, found obs_horizon 0'),
        ((1, 8, 0), 'action_horizon 0'),
        ((1, 64, 1), 'expected an episode of at least 64 steps.*found at most 20'),
        ((2, 32, 8), 'expected an episode of at least 24 steps.*found at most 20'),
    ],
)
def test_impossible_horizons_show_the_numbers(horizons, message):
    with pytest.raises(ValueError, match=message):
        windows.make(make_episodes([20, 9]), *horizons)
