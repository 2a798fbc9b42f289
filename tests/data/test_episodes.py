import json
import os

import jax
import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib


def make_episodes(lengths=(3, 5, 2), obs_dim=4, action_dim=2, seed=0):
    random = np.random.default_rng(seed)
    rows = sum(lengths)
    return episodes_lib.Episodes(
        obs=random.normal(size=(rows, obs_dim)).astype(np.float32),
        action=random.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        episode_ends=np.cumsum(lengths).astype(np.int64),
        info={'source': 'made up', 'control_hz': 10.0},
    )


def spoil(array, row, value):
    array = array.copy()
    array[row] = value
    return array


GOOD = make_episodes()
BAD = {
    "'action': expected values in [-1, 1], found magnitude 1.5 in row 4": GOOD._replace(
        action=spoil(GOOD.action, 4, -1.5)
    ),
    "'action': expected finite values, found 2 that are not, row 3": GOOD._replace(
        action=spoil(GOOD.action, 3, np.nan)
    ),
    "'action': expected shape [any, any], found [10]": GOOD._replace(action=GOOD.action[:, 0]),
    "'action': expected data, found an empty array": GOOD._replace(action=GOOD.action[:0]),
    "'action': expected float32, found float64": GOOD._replace(action=GOOD.action.astype(float)),
    "'action': expected an array of numbers, found list": GOOD._replace(action=[[0.0]]),
    "'obs': expected shape [10, 4], found [9, 4]": GOOD._replace(obs=GOOD.obs[:-1]),
    "'obs': expected finite values, found 4 that are not, row 7": GOOD._replace(
        obs=spoil(GOOD.obs, 7, np.inf)
    ),
    "'obs': expected float32 or uint8, found int64": GOOD._replace(obs=GOOD.obs.astype(np.int64)),
    "'obs': expected at least one array": GOOD._replace(obs={}),
    "'obs/b': expected shape [10, 2], found [4, 2]": GOOD._replace(
        obs={'a': GOOD.obs, 'b': np.zeros((4, 2), np.float32)}
    ),
    "obs: expected names without a slash, found 'a/b'": GOOD._replace(obs={'a/b': GOOD.obs}),
    "'episode_ends': expected increasing ends, found 3 after 3 (episode 1)": GOOD._replace(
        episode_ends=np.array([3, 3, 10])
    ),
    "'episode_ends': expected increasing ends, found 0 after 0 (episode 0)": GOOD._replace(
        episode_ends=np.array([0, 3, 10])
    ),
    "'episode_ends': expected the last to be 10, the rows of 'action', found 9": GOOD._replace(
        episode_ends=np.array([3, 9])
    ),
    "'episode_ends': expected int64, found float32": GOOD._replace(
        episode_ends=np.array([3, 10], np.float32)
    ),
    "'episode_ends': expected data, found an empty": GOOD._replace(episode_ends=np.zeros(0, int)),
    "'info' 'x': expected a string or a number, found [1]": GOOD._replace(info={'x': [1]}),
}


@pytest.mark.parametrize('message', BAD)
def test_validate_names_the_array_the_expected_and_the_found(message):
    with pytest.raises(ValueError) as error:
        episodes_lib.validate(BAD[message], 'demo.npz')
    assert 'demo.npz' in str(error.value) or message.startswith('obs:')
    assert message in str(error.value)


def test_save_and_load_give_the_same_episodes_and_leave_no_other_file(tmp_path):
    path = tmp_path / 'demo.npz'
    image = np.arange(10 * 12, dtype=np.uint8).reshape(10, 2, 2, 3)
    for obs in (GOOD.obs, {'image': image, 'arm': {'position': GOOD.obs, 'speed': GOOD.obs}}):
        episodes = GOOD._replace(obs=obs)
        episodes_lib.save(path, episodes)
        loaded = episodes_lib.load(path)
        flat, loaded_flat = (episodes_lib.flatten_obs(e.obs) for e in (episodes, loaded))
        assert flat.keys() == loaded_flat.keys()
        for key, array in flat.items():
            np.testing.assert_array_equal(loaded_flat[key], array)
            assert loaded_flat[key].dtype == array.dtype
        np.testing.assert_array_equal(loaded.action, episodes.action)
        np.testing.assert_array_equal(loaded.episode_ends, episodes.episode_ends)
        assert loaded.info == episodes.info
    assert os.listdir(tmp_path) == ['demo.npz']


def test_tags_are_saved_chosen_and_checked(tmp_path):
    tag = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 1], np.uint8)
    tagged = GOOD._replace(tags={'intervention': tag})
    episodes_lib.save(tmp_path / 'a.npz', tagged)
    loaded = episodes_lib.load(tmp_path / 'a.npz')
    np.testing.assert_array_equal(loaded.tags['intervention'], tag)
    last = episodes_lib.subset(loaded, 1, 0)
    row = len(last.action)
    start = {3: 0, 5: 3, 2: 8}[row]
    np.testing.assert_array_equal(last.tags['intervention'], tag[start : start + row])
    for wrong, message in (
        (tag[:-1], r"'tag/intervention': expected shape \[10\], found \[9\]"),
        (tag.astype(np.float32), "'tag/intervention': expected uint8, found float32"),
    ):
        with pytest.raises(ValueError, match=message):
            episodes_lib.validate(GOOD._replace(tags={'intervention': wrong}), 'x')


def rewarded(lengths=(3, 5, 2), seed=0):
    """Episodes with rewards, of which every other one ran out of time."""
    episodes = make_episodes(lengths, seed=seed)
    random = np.random.default_rng(seed + 1)
    termination = np.zeros(sum(lengths), np.uint8)
    termination[episodes.episode_ends[::2] - 1] = 1
    return episodes._replace(
        obs={'arm': {'speed': episodes.obs}, 'cube': episodes.obs[:, :1]},
        reward=random.normal(size=sum(lengths)).astype(np.float32),
        termination=termination,
        last_obs={
            'arm': {'speed': random.normal(size=(len(lengths), 4)).astype(np.float32)},
            'cube': random.normal(size=(len(lengths), 1)).astype(np.float32),
        },
    )


def assert_same(found, wanted):
    for field in ('obs', 'action', 'episode_ends', 'reward', 'termination', 'last_obs'):
        a, b = (e._asdict()[field] for e in (found, wanted))
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('parts', [True, False])
def test_rewards_and_what_they_end_with_are_saved(tmp_path, parts):
    episodes, path = rewarded(), tmp_path / 'demo.npz'
    if not parts:
        speed = [tree['arm']['speed'] for tree in (episodes.obs, episodes.last_obs)]
        episodes = episodes._replace(obs=speed[0], last_obs=speed[1])
    episodes_lib.save(path, episodes)
    loaded = episodes_lib.load(path)
    assert_same(loaded, episodes)
    last = {'last_obs/arm/speed', 'last_obs/cube'} if parts else {'last_obs'}
    with np.load(path) as file:
        assert {'reward', 'termination', *last} < set(file.files)
    episodes_lib.save(path, episodes._replace(termination=None, last_obs=None))
    loaded = episodes_lib.load(path)
    assert loaded.reward is not None and loaded.termination is None and loaded.last_obs is None


def test_rewards_are_chosen_and_joined_with_their_episodes():
    one, two = rewarded(), rewarded((4, 1), seed=5)
    both = episodes_lib.validate(episodes_lib.concatenate([one, two]), 'both')
    np.testing.assert_array_equal(both.reward, np.concatenate([one.reward, two.reward]))
    assert both.termination.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    np.testing.assert_array_equal(both.last_obs['cube'][3:], two.last_obs['cube'])
    assert_same(episodes_lib.subset(both, 5, seed=0), both)
    chosen = episodes_lib.subset(both, 3, seed=0)
    episodes_lib.validate(chosen, 'subset')
    starts = dict(zip(both.last_obs['cube'][:, 0], [0, 3, 8, 10, 14], strict=True))
    begin = 0
    for e, end in enumerate(chosen.episode_ends):
        start = starts[chosen.last_obs['cube'][e, 0]]
        np.testing.assert_array_equal(
            chosen.reward[begin:end], both.reward[start : start + end - begin]
        )
        begin = end


def test_what_only_some_parts_have_is_left_out():
    one, two = rewarded(), rewarded((4, 1), seed=5)
    both = episodes_lib.concatenate([one, two._replace(reward=None, last_obs=None)])
    assert both.reward is None and both.last_obs is None and len(both.termination) == 15


REWARDED = rewarded()
BAD_OUTCOMES = {
    "'reward': expected shape [10], found [9]": {'reward': REWARDED.reward[:-1]},
    "'reward': expected float32, found float64": {'reward': REWARDED.reward.astype(float)},
    "'reward': expected finite values, found 1 that are not, row 4": {
        'reward': spoil(REWARDED.reward, 4, np.nan)
    },
    "'termination': expected shape [10], found [3]": {'termination': REWARDED.termination[:3]},
    "'termination': expected uint8, found int64": {'termination': np.zeros(10, int)},
    "'termination': expected 0, or 1 on the last row of an episode, found 1 in row 3": {
        'termination': spoil(REWARDED.termination, 3, 1)
    },
    "'termination': expected 0, or 1 on the last row of an episode, found 2 in row 7": {
        'termination': spoil(REWARDED.termination, 7, 2)
    },
    "'last_obs/cube': expected shape [3, 1], found [10, 1]": {
        'last_obs': REWARDED.last_obs | {'cube': REWARDED.obs['cube']}
    },
    "'last_obs/cube': expected float32, found uint8": {
        'last_obs': REWARDED.last_obs | {'cube': np.zeros((3, 1), np.uint8)}
    },
    "'last_obs': expected ['last_obs/arm/speed', 'last_obs/cube'], found ['last_obs']": {
        'last_obs': REWARDED.last_obs['cube']
    },
}


@pytest.mark.parametrize('message', BAD_OUTCOMES)
def test_rewards_and_ends_are_checked(message):
    with pytest.raises(ValueError) as error:
        episodes_lib.validate(REWARDED._replace(**BAD_OUTCOMES[message]), 'demo.npz')
    assert f'demo.npz: {message}' in str(error.value)


def test_the_file_is_what_the_docstring_says(tmp_path):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD._replace(obs={'arm': GOOD.obs}))
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {'obs/arm', 'action', 'episode_ends', 'info', 'version'}
        assert json.loads(str(file['info'])) == GOOD.info
        assert file['version'] == 1


def test_a_save_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD)
    with pytest.raises(ValueError, match='action'):
        episodes_lib.save(path, GOOD._replace(action=GOOD.action * 3))

    def full_disk(*args, **kwargs):
        raise OSError('no space left')

    monkeypatch.setattr(np, 'savez', full_disk)
    with pytest.raises(OSError, match='no space'):
        episodes_lib.save(path, make_episodes(seed=1))
    assert os.listdir(tmp_path) == ['demo.npz']
    np.testing.assert_array_equal(episodes_lib.load(path).action, GOOD.action)


def test_a_damaged_file_gives_a_value_error_or_the_same_arrays(tmp_path):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        at = int(random.integers(len(content)))
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(content[:at] if trial % 3 == 0 else bytes(damaged))
        try:
            loaded = episodes_lib.load(path)
        except ValueError as error:
            assert 'demo.npz' in str(error)
            refused += 1
        else:  # a byte that says nothing about the arrays, such as a time stamp
            np.testing.assert_array_equal(loaded.obs, GOOD.obs)
            np.testing.assert_array_equal(loaded.action, GOOD.action)
    assert refused > 200


def test_a_damaged_header_does_not_pass_for_a_smaller_array(tmp_path):
    path = tmp_path / 'demo.npz'
    episodes_lib.save(path, GOOD)
    content = path.read_bytes()
    assert content.count(b'(10, 2)') == 1  # the shape of the actions
    path.write_bytes(content.replace(b'(10, 2)', b'(10, 1)'))
    with pytest.raises(ValueError, match=r'action\.npy is damaged'):
        episodes_lib.load(path)


def write_arrays(path, **changes):
    arrays = {
        'obs': GOOD.obs,
        'action': GOOD.action,
        'episode_ends': GOOD.episode_ends,
        'info': np.asarray('{}'),
        'version': np.asarray(1),
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'action': None}, "'action': expected an array, found only"),
        ({'obs': None}, "'obs': expected an array, found only"),
        ({'episode_ends': None}, "'episode_ends': expected an array"),
        ({'extra': np.zeros(3)}, "'extra': expected no such array"),
        ({'version': np.asarray(3)}, "'version': expected 1 or 2, found 3"),
        ({'info': np.asarray('{not json')}, "'info': expected a JSON object"),
        ({'info': np.asarray('[1]')}, "'info': expected a JSON object, found list"),
        ({'obs/a': GOOD.obs}, "'obs': expected one array or parts"),
        ({'tag': np.zeros(10, np.uint8)}, "'tag': expected no such array"),
        (
            {'last_obs': GOOD.obs[:3], 'last_obs/a': GOOD.obs[:3]},
            "'last_obs': expected one array or parts",
        ),
        ({'obs': None, 'obs/a': GOOD.obs, 'obs/a/b': GOOD.obs}, "'obs/a/b': expected a tree"),
        ({'obs': np.array([None] * 10)}, 'expected a whole .npz file'),
        ({'action': GOOD.action[:4]}, 'expected shape [4, 4], found [10, 4]'),
    ],
)
def test_load_refuses(tmp_path, changes, message):
    path = write_arrays(tmp_path / 'bad.npz', **changes)
    with pytest.raises(ValueError) as error:
        episodes_lib.load(path)
    assert 'bad.npz' in str(error.value)
    assert message in str(error.value)


def test_load_refuses_what_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r'none\.npz: expected a file of episodes, found none'):
        episodes_lib.load(tmp_path / 'none.npz')
    (tmp_path / 'text.npz').write_text('hello')
    with pytest.raises(ValueError, match=r'expected a whole \.npz file'):
        episodes_lib.load(tmp_path / 'text.npz')


def test_subset_keeps_whole_episodes_in_order():
    episodes = make_episodes(lengths=(3, 5, 2, 7, 4))
    ends = [0, *episodes.episode_ends.tolist()]
    chosen = episodes_lib.subset(episodes, 3, seed=1)
    episodes_lib.validate(chosen, 'subset')
    found, start = [], 0
    for end in chosen.episode_ends:
        found += [
            e
            for e in range(5)
            if np.array_equal(episodes.obs[ends[e] : ends[e + 1]], chosen.obs[start:end])
            and np.array_equal(episodes.action[ends[e] : ends[e + 1]], chosen.action[start:end])
        ]
        start = end
    assert len(found) == 3 and found == sorted(set(found))
    choices = {tuple(episodes_lib.subset(episodes, 3, seed).episode_ends) for seed in range(8)}
    assert len(choices) > 1
    assert episodes_lib.subset(episodes, None, seed=0) is episodes
    np.testing.assert_array_equal(episodes_lib.subset(episodes, 5, seed=3).obs, episodes.obs)


@pytest.mark.parametrize('count', [0, 6])
def test_subset_refuses_an_impossible_count(count):
    with pytest.raises(ValueError, match=f'num_episodes: expected 1 to 5, found {count}'):
        episodes_lib.subset(make_episodes(lengths=(3, 5, 2, 7, 4)), count, seed=0)
