"""Texts that identify arrays and code."""

import jax.numpy as jnp
import numpy as np

from jaxpolicy.io import fingerprint

TREE = {'a': np.arange(6.0, dtype=np.float32), 'b': {'c': 1, 'd': 'x'}}


def test_everything_of_a_tree_counts():
    told = fingerprint.of(TREE)
    assert told == fingerprint.of({'b': {'d': 'x', 'c': 1}, 'a': jnp.arange(6.0)})
    others = [
        {**TREE, 'a': TREE['a'] + 1},
        {**TREE, 'a': TREE['a'].reshape(2, 3)},
        {**TREE, 'a': TREE['a'].view(np.int32)},
        {**TREE, 'a': TREE['a'].astype(np.float64)},
        {**TREE, 'b': {'c': 2, 'd': 'x'}},
        {**TREE, 'b': {'c': '1', 'd': 'x'}},
        {'other': TREE['a'], 'b': TREE['b']},
        {'a': TREE['a']},
    ]
    assert len({told, *map(fingerprint.of, others)}) == 1 + len(others)


def test_code_is_the_source_and_the_versions(tmp_path, monkeypatch):
    file = tmp_path / 'task.py'
    file.write_text('speed = 1')
    told = fingerprint.of_code([file])
    assert told == fingerprint.of_code([file]) == fingerprint.of_code([tmp_path])
    assert told != fingerprint.of_code()
    file.write_text('speed = 2')
    assert told != fingerprint.of_code([file])
    alone = fingerprint.of_code()
    monkeypatch.setattr(fingerprint, '_version', lambda name: 'newer')
    assert alone != fingerprint.of_code()


def test_what_only_writes_down_does_not_count(monkeypatch):
    names = []
    monkeypatch.setattr(fingerprint.Path, 'read_bytes', lambda self: names.append(self) or b'')
    fingerprint.of_code()
    parts = {file.parts[file.parts.index('jaxpolicy') + 1] for file in names}
    assert {'ops', 'nets', 'agents', 'envs', 'loops', 'runs', 'types.py'} <= parts
    assert 'io' not in parts
