"""Demonstrations whose actions are choices, in memory and in files."""

import numpy as np
import pytest

from jaxpolicy.data import choices, windows
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.runs import dataset

CHOSEN = [2, 0, 1, 1, 2, 2]
GOOD = episodes_lib.Episodes(
    obs=np.arange(6, dtype=np.float32)[:, None],
    action=np.eye(3, dtype=np.int8)[CHOSEN],
    episode_ends=np.array([2, 6]),
)


def spoiled(row, value):
    action = GOOD.action.copy()
    action[row] = value
    return action


def test_a_file_holds_the_choices_and_their_number(tmp_path):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD)
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {
            'obs', 'action', 'num_choices', 'episode_ends', 'info', 'version',
        }  # fmt: skip
        assert file['action'].dtype == np.int32 and file['action'].tolist() == CHOSEN
        assert file['num_choices'].dtype == np.int64 and file['num_choices'] == 3
        assert file['version'] == 2
    loaded = episodes_lib.load(path)
    assert loaded.action.dtype == np.int8
    np.testing.assert_array_equal(loaded.action, GOOD.action)
    spec = dataset.spec_of(loaded).action
    assert (spec.shape, spec.dtype) == ((3,), np.int8)


def test_choices_that_nobody_made_are_kept(tmp_path):
    """The number of choices is the file's, not one more than the largest of them."""
    two = GOOD._replace(action=np.eye(3, dtype=np.int8)[[0, 1, 0, 1, 0, 0]])
    episodes_lib.save(tmp_path / 'demo.npz', two)
    np.testing.assert_array_equal(episodes_lib.load(tmp_path / 'demo.npz').action, two.action)


@pytest.mark.parametrize(
    ('action', 'message'),
    [
        (np.array(CHOSEN), r'expected float32 \[n, A\], or choices as one-hot .* int64 \[6\]'),
        (GOOD.action.astype(np.int32), r'one-hot int8 \[n, M\], found int32 \[6, 3\]'),
        (spoiled(4, 0), r'expected one 1 among zeros, found \[0, 0, 0\] in row 4'),
        (spoiled(3, [1, 0, 1]), r'found \[1, 0, 1\] in row 3'),
        (spoiled(1, [2, -1, 0]), r'found \[2, -1, 0\] in row 1'),
        (GOOD.action[:0], 'expected data, found an empty array'),
        (np.ones((6, 1), np.int8), 'expected 2 to 1024 choices, found 1'),
    ],
)
def test_actions_that_are_not_one_hot_are_refused(tmp_path, action, message):
    with pytest.raises(ValueError, match=f"demo.npz: 'action': .*{message}"):
        episodes_lib.save(tmp_path / 'demo.npz', GOOD._replace(action=action))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'action': np.array([2, 0, 3, 1, 2, 2], np.int32)},
            "'action': expected choices from 0 to 2, found 3 in row 2",
        ),
        (
            {'action': np.array([2, 0, 1, 1, -1, 2], np.int32)},
            "'action': expected choices from 0 to 2, found -1 in row 4",
        ),
        ({'action': np.array(CHOSEN)}, "'action': expected int32, found int64"),
        ({'action': GOOD.action}, "'action': expected shape [any], found [6, 3]"),
        ({'num_choices': np.asarray(1)}, "'num_choices': expected 2 to 1024 choices, found 1"),
        ({'num_choices': np.asarray(10**9)}, "'num_choices': expected 2 to 1024 choices, found 10"),
        ({'num_choices': np.asarray(3.0)}, "'num_choices': expected one int64, found float64 []"),
        ({'num_choices': np.array([3, 3])}, "'num_choices': expected one int64, found int64 [2]"),
        ({'num_choices': None}, "'num_choices': expected an array, found only"),
        ({'version': np.asarray(1)}, "'num_choices': expected no such array"),
        ({'version': np.asarray(3)}, "'version': expected 1 or 2, found 3"),
    ],
)
def test_files_are_checked(tmp_path, changes, message):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError) as error:
        episodes_lib.load(path)
    assert f'demo.npz: {message}' in str(error.value)


def test_sets_of_other_actions_are_not_joined():
    wide = GOOD._replace(action=np.eye(4, dtype=np.int8)[CHOSEN])
    numbers = GOOD._replace(action=GOOD.action.astype(np.float32))
    for other in (wide, numbers):
        with pytest.raises(ValueError, match='data.path: expected the same shapes'):
            episodes_lib.concatenate([GOOD, other])
    both = episodes_lib.concatenate([GOOD, GOOD])
    assert choices.to_file(both.action)['action'].tolist() == CHOSEN * 2


def test_chunks_hold_the_choices_that_belong_to_what_was_seen():
    made = windows.make(GOOD, obs_horizon=1, pred_horizon=3, action_horizon=2)
    chunk = windows.gather(made, np.arange(windows.num_windows(made)))
    assert chunk.action.dtype == np.int8
    first = np.asarray(chunk.obs)[:, 0, 0].astype(int)
    assert first.tolist() == [0, 2, 3, 4]  # one step may lie beyond the end
    for row, action, mask in zip(first, np.asarray(chunk.action), chunk.mask, strict=True):
        end = 2 if row < 2 else 6
        assert mask.tolist() == [row + i < end for i in range(3)]
        assert action.argmax(-1).tolist() == [CHOSEN[min(row + i, end - 1)] for i in range(3)]
