"""What a run says of what its policy sees and does."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.io import spec_file
from jaxpolicy.types import Spec


def leaf(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


ACTION = leaf(4)
SPECS = {
    'flat': Spec(leaf(11), ACTION),
    'choices': Spec(leaf(4), leaf(2, dtype=jnp.int8)),
    'a number': Spec(leaf(), ACTION),
    'named': Spec({'image': leaf(96, 96, 3, dtype=jnp.uint8), 'state': leaf(7)}, ACTION),
    'nested': Spec({'arm': {'left': leaf(7), 'right': leaf(7)}, 'goal': leaf(3)}, ACTION),
    'a tuple': Spec((leaf(3), {'x': leaf(2, dtype=jnp.int32)}), ACTION),
    'odd names': Spec({'shape': leaf(3), 'dtype': leaf(2)}, ACTION),
}


@pytest.mark.parametrize('name', SPECS)
def test_round_trip(tmp_path, name):
    about = {'env': 'reach', 'control_hz': 25.0, 'units': None}
    spec_file.write(tmp_path, SPECS[name], about)
    assert spec_file.read(tmp_path) == SPECS[name]
    assert spec_file.read_about(tmp_path) == about
    assert [path.name for path in tmp_path.iterdir()] == [spec_file.FILE]


def test_the_file_is_read_without_jax(tmp_path):
    spec_file.write(tmp_path, SPECS['named'], {})
    record = json.loads((tmp_path / spec_file.FILE).read_text())
    assert record['obs']['image'] == {'shape': [96, 96, 3], 'dtype': 'uint8'}
    assert record['action'] == {'shape': [4], 'dtype': 'float32'} and record['format'] == 1


def test_older_runs_have_none(tmp_path):
    assert spec_file.read(tmp_path) is None and spec_file.read_about(tmp_path) == {}


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: text[: len(text) // 2], 'not JSON'),
        (lambda text: '', 'not JSON'),
        (lambda text: '[1]', r'expected format 1, found \[1\]'),
        (lambda text: '{}', 'expected format 1, found None'),
        (lambda text: text.replace('"format": 1', '"format": 2'), 'expected format 1, found 2'),
        (lambda text: text.replace('"obs"', '"ob"'), 'expected shapes and dtypes, found.*obs'),
        (lambda text: text.replace('"shape"', '"shap"'), 'expected shapes and dtypes, found'),
        (lambda text: text.replace('float32', 'float23'), 'expected shapes and dtypes.*float23'),
        (lambda text: text.replace('96', '"96"'), 'expected shapes and dtypes, found'),
        (lambda text: text.replace('96', '9.6'), 'expected shapes and dtypes, found'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, message):
    spec_file.write(tmp_path, SPECS['named'], {})
    path = tmp_path / spec_file.FILE
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(ValueError, match=message) as error:
        spec_file.read(tmp_path)
    assert str(error.value).startswith(f'{path}: ')


def test_what_cannot_be_written(tmp_path):
    for obs in ([leaf(3)], {'x': np.zeros}):
        with pytest.raises(ValueError, match='expected arrays in dicts and tuples, found'):
            spec_file.write(tmp_path, Spec(obs, ACTION), {})
    assert not list(tmp_path.iterdir())
