import os
import shutil

import numpy as np
import pytest
import tensorstore

from jaxpolicy import registry
from jaxpolicy.data.formats import pusht_zarr

ROWS = 40


def make_arrays():
    random = np.random.default_rng(0)
    return {
        'data/action': random.uniform(0, 512, (ROWS, 2)).astype(np.float32),
        'data/state': random.uniform(0, 512, (ROWS, 5)).astype(np.float32),
        'data/keypoint': random.uniform(0, 512, (ROWS, 9, 2)).astype(np.float32),
        'meta/episode_ends': np.array([7, 25, ROWS]),
    }


def write_zarr(folder, arrays):
    for key, array in arrays.items():
        spec = {
            'driver': 'zarr',
            'kvstore': {'driver': 'file', 'path': str(folder / key)},
            'metadata': {
                'shape': array.shape,
                'chunks': [16, *array.shape[1:]],
                'dtype': array.dtype.str,
                'compressor': {'id': 'blosc', 'cname': 'zstd', 'clevel': 5, 'shuffle': 2},
            },
        }
        store = tensorstore.open(spec, create=True, delete_existing=True).result()
        store.write(array).result()
    return folder


@pytest.fixture(scope='module')
def real(data_dir):
    path = data_dir / 'pusht' / 'pusht_cchi_v7_replay.zarr'
    if not path.is_dir():
        pytest.skip(f'no human demonstrations: {path} is not a folder')
    return path


@pytest.fixture
def replay(tmp_path):
    return write_zarr(tmp_path / 'replay.zarr', make_arrays())


def test_observations_and_actions(replay):
    arrays = make_arrays()
    keypoints = pusht_zarr.load(replay, obs='keypoints')
    expected = np.concatenate(
        [arrays['data/keypoint'].reshape(ROWS, 18), arrays['data/state'][:, :2]], 1
    )
    np.testing.assert_array_equal(keypoints.obs, expected)
    np.testing.assert_allclose(keypoints.action, arrays['data/action'] / 256 - 1, atol=1e-6)
    np.testing.assert_array_equal(keypoints.episode_ends, [7, 25, ROWS])
    state = pusht_zarr.load(replay, obs='state')
    np.testing.assert_array_equal(state.obs[:, :4], arrays['data/state'][:, :4])
    angle = arrays['data/state'][:, 4].astype(float)
    assert ((state.obs[:, 4] >= 0) & (state.obs[:, 4] <= 2 * np.pi)).all()
    np.testing.assert_allclose(np.cos(state.obs[:, 4]), np.cos(angle), atol=1e-3)
    np.testing.assert_allclose(np.sin(state.obs[:, 4]), np.sin(angle), atol=1e-3)


def test_the_registry_reads_it(replay):
    module = registry.resolve('formats', 'pusht_zarr', 'config.data.format')
    assert module is pusht_zarr and module.FROM_ENV == ('obs',)
    assert module.load(replay, obs='state').obs.shape == (ROWS, 5)
    with pytest.raises(ValueError, match="obs: expected 'keypoints' or 'state', found 'image'"):
        pusht_zarr.load(replay, obs='image')


def nan_at(array):
    array = array.copy()
    array[3] = np.nan
    return array


@pytest.mark.parametrize(
    ('key', 'change', 'message'),
    [
        ('data/action', nan_at, 'expected finite values, found 2 that are not, row 3'),
        ('data/state', nan_at, 'expected finite values, found 5 that are not, row 3'),
        ('data/keypoint', nan_at, 'expected finite values, found 18 that are not, row 3'),
        ('data/action', lambda x: x[:, :1], 'expected shape [any, 2], found [40, 1]'),
        ('data/state', lambda x: x[:, :4], 'expected shape [40, 5], found [40, 4]'),
        ('data/state', lambda x: x[:-3], 'expected shape [40, 5], found [37, 5]'),
        ('data/keypoint', lambda x: x.reshape(40, 18), 'expected shape [40, 9, 2], found [40, 18]'),
        ('data/action', lambda x: x + 100, 'expected px in [0, 512], found'),
        ('data/action', lambda x: x[:0], 'expected data, found an empty array'),
        ('meta/episode_ends', lambda x: x[:-1], 'expected the last to be 40'),
        ('meta/episode_ends', lambda x: x[::-1], 'expected increasing ends, found 25 after 40'),
        ('meta/episode_ends', lambda x: x[:0], 'expected data, found an empty array'),
    ],
)
def test_wrong_arrays_give_one_clear_error(tmp_path, key, change, message):
    arrays = make_arrays()
    arrays[key] = np.ascontiguousarray(change(arrays[key]))
    path = write_zarr(tmp_path / 'replay.zarr', arrays)
    with pytest.raises(ValueError) as error:
        pusht_zarr.load(path)
    assert key.split('/')[1] in str(error.value)
    assert message in str(error.value)


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b'')


def garble(path):
    path.write_bytes(bytes(reversed(path.read_bytes())))


KEYS = ('data/action', 'data/state', 'data/keypoint', 'meta/episode_ends')


@pytest.mark.parametrize('damage', [remove, truncate, empty, garble])
@pytest.mark.parametrize('key', KEYS)
def test_damaged_chunks_and_metadata_give_one_clear_error(replay, key, damage):
    chunk = sorted(p for p in (replay / key).iterdir() if not p.name.startswith('.'))[-1]
    for path in (chunk, replay / key / '.zarray'):
        content = path.read_bytes()
        damage(path)
        with pytest.raises(ValueError) as error:
            pusht_zarr.load(replay)
        assert f'{replay}: {key}: expected' in str(error.value)
        path.write_bytes(content)
    pusht_zarr.load(replay)


def test_a_missing_array_or_folder(replay, tmp_path):
    shutil.rmtree(replay / 'data' / 'keypoint')
    with pytest.raises(
        ValueError, match='data/keypoint: expected an array, found no data/keypoint'
    ):
        pusht_zarr.load(replay)
    pusht_zarr.load(replay, obs='state')  # does not need them
    with pytest.raises(ValueError, match='expected a zarr folder'):
        pusht_zarr.load(tmp_path / 'nowhere.zarr')
    (tmp_path / 'pusht.zip').write_bytes(b'')
    with pytest.raises(ValueError, match='unzip it first'):
        pusht_zarr.load(tmp_path / 'pusht.zip')


def test_the_real_demonstrations(real):
    keypoints = pusht_zarr.load(real, obs='keypoints')
    assert keypoints.obs.shape == (25650, 20)
    assert keypoints.action.shape == (25650, 2)
    lengths = np.diff(keypoints.episode_ends, prepend=0)
    assert (len(lengths), lengths.min(), lengths.max()) == (206, 49, 246)
    state = pusht_zarr.load(real, obs='state')
    np.testing.assert_array_equal(state.obs[:, :2], keypoints.obs[:, 18:])


@pytest.mark.parametrize('damage', [remove, truncate, garble])
def test_a_damaged_copy_of_the_real_demonstrations(tmp_path, damage, real):
    copy = tmp_path / 'copy.zarr'
    for key in KEYS:
        shutil.copytree(real / key, copy / key, copy_function=shutil.copyfile)
    os.chmod(copy / 'data' / 'state', 0o755)  # the original may be read-only
    damage(copy / 'data' / 'state' / '80.0')
    with pytest.raises(ValueError, match='data/state: expected a readable array'):
        pusht_zarr.load(copy)
