"""Checkpoints: bitwise, strict, atomic."""

import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpolicy import train_state
from jaxpolicy.io import checkpoint
from jaxpolicy.types import EnvState, LoopState


def _init(key):
    keys = jax.random.split(key, 4)
    params = {
        'actor': {'Dense_0': {'kernel': jax.random.normal(keys[0], (3, 4)), 'bias': jnp.zeros(4)}},
        'half': {'w': jax.random.normal(keys[1], (2, 2), jnp.bfloat16)},
        'empty': {},
    }
    txs = {
        'actor': optax.chain(
            optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adamw)(learning_rate=0.1)
        ),
        'half': optax.sgd(0.1, momentum=0.9),
    }
    train = train_state.create(params, txs, {'actor': params['actor']}, {'obs': {'n': keys[2]}})
    env = EnvState(
        obs={'state': jnp.arange(6.0).reshape(2, 3)},
        next_obs={'state': jnp.array([[jnp.nan, jnp.inf, -0.0]] * 2)},
        reward=jnp.zeros(2),
        termination=jnp.array([True, False]),
        truncation=jnp.zeros(2, bool),
        metrics={},
        key=jax.random.split(keys[3]),
        sim=(jnp.int32(7), ()),
    )
    return LoopState(train=train, env=env, key=jax.random.key(1, impl='rbg'))


@pytest.fixture(scope='module')
def state() -> LoopState:
    return jax.jit(_init)(jax.random.key(0))


def _bytes(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    raw = jax.random.key_data(leaf) if is_key else leaf
    return str(leaf.dtype), leaf.shape, np.asarray(raw).tobytes()


def _assert_bitwise(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.map(_bytes, a) == jax.tree.map(_bytes, b)


@pytest.mark.parametrize('abstract', [True, False])
def test_round_trip_is_bitwise(tmp_path, state, abstract):
    with checkpoint.open_manager(tmp_path / 'c') as manager:
        assert checkpoint.save(manager, 3, state, {'epoch': 3, 'best': None, 'shape': [1, 2]})
    template = jax.eval_shape(_init, jax.random.key(0)) if abstract else state
    with checkpoint.open_manager(tmp_path / 'c', read_only=True) as manager:
        assert checkpoint.latest_step(manager) == 3
        restored, meta = checkpoint.restore(manager, 3, template)
        train = checkpoint.restore_train(manager, 3, template.train)
    _assert_bitwise(restored, state)
    _assert_bitwise(train, state.train)
    assert meta == {'epoch': 3, 'best': None, 'shape': [1, 2]}
    assert str(jax.random.key_impl(restored.key)) == str(jax.random.key_impl(state.key))


def test_offline_state_without_env_and_a_missing_directory(tmp_path, state):
    offline = state.replace(env=())
    with checkpoint.open_manager(tmp_path) as manager:
        assert checkpoint.latest_step(manager) is None and checkpoint.best_step(manager) is None
        checkpoint.save(manager, 0, offline, {})
        _assert_bitwise(checkpoint.restore(manager, 0, offline)[0], offline)
        assert not checkpoint.save(manager, 0, state, {}), 'the step is there already'
        with pytest.raises(ValueError, match=r'no checkpoint 7 .* it has \[0\]'):
            checkpoint.restore(manager, 7, offline)
    with pytest.raises(ValueError, match='expected a folder of checkpoints, found none'):
        checkpoint.open_manager(tmp_path / 'nowhere', read_only=True)


def test_restored_buffers_are_their_own(tmp_path, state):
    """A restored state can be donated, and a template's sharding is honoured."""
    mesh = Mesh(np.array(jax.devices()), ('data',))
    count = len(jax.devices())
    split = NamedSharding(mesh, PartitionSpec('data'))
    env = jax.device_put(jnp.arange(2.0 * count), split)
    keys = jax.device_put(jax.random.split(jax.random.key(2), count), split)
    loop = state.replace(env={'x': env, 'key': keys})
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, loop, {})
        restored, _ = checkpoint.restore(manager, 1, loop)
        plain = checkpoint.restore_train(manager, 1, jax.eval_shape(lambda: state.train))
    _assert_bitwise(restored, loop)
    assert restored.env['x'].sharding == split
    donate = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    kernel = plain.params['actor']['Dense_0']['kernel']
    donate(plain.params)
    assert kernel.is_deleted()


def _without_bias(train):
    params = {**train.params, 'actor': {'Dense_0': dict(train.params['actor']['Dense_0'])}}
    del params['actor']['Dense_0']['bias']
    return train.replace(params=params)


BAD_TEMPLATES = {
    'extra': (_without_bias, r'params/actor/Dense_0/bias: in the checkpoint, but not expected'),
    'missing': (
        lambda t: t.replace(stats={**t.stats, 'reward': jnp.zeros(2)}),
        'stats/reward: missing in the checkpoint',
    ),
    'shape': (
        lambda t: t.replace(step=jnp.zeros((2,), jnp.int32)),
        r'step: expected shape \[2\], found \[\]',
    ),
    'dtype': (
        lambda t: t.replace(step=jnp.zeros((), jnp.float32)),
        'step: expected dtype float32, found int32',
    ),
    'key': (
        lambda t: t.replace(stats={'obs': {'n': jnp.zeros((2,), jnp.uint32)}}),
        r'stats/obs/n: expected shape \[2\], found \[\]',
    ),
    'python': (lambda t: t.replace(step=3), 'train/step: expected an array, found int'),
}


@pytest.mark.parametrize('name', BAD_TEMPLATES)
def test_a_template_that_does_not_fit_is_refused(tmp_path, state, name):
    change, message = BAD_TEMPLATES[name]
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, state, {})
        template = state.replace(train=change(state.train))
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(manager, 1, template)
        with pytest.raises(ValueError, match=message):
            checkpoint.restore_train(manager, 1, template.train)


def test_keeps_the_best_and_the_last(tmp_path, state):
    small = LoopState(train={'x': jnp.zeros(2)}, env=(), key=state.key)
    scores = {1: 0.1, 2: 0.9, 3: None, 4: float('nan'), 5: 0.3, 6: None}
    with checkpoint.open_manager(tmp_path, keep_last=2) as manager:
        for step, score in scores.items():
            checkpoint.save(manager, step, small, {}, metric=score)
    with checkpoint.open_manager(tmp_path, keep_last=2) as manager:
        assert sorted(manager.all_steps()) == [2, 5, 6]
        assert checkpoint.best_step(manager) == 2
        assert checkpoint.latest_step(manager) == 6
    with checkpoint.open_manager(tmp_path, read_only=True) as manager:
        with pytest.raises(ValueError, match='read-only'):
            checkpoint.save(manager, 7, small, {})
    with pytest.raises(ValueError, match='keep_last must be at least 1, found 0'):
        checkpoint.open_manager(tmp_path, keep_last=0)


_VICTIM = """
import os, signal, sys
import jax, jax.numpy as jnp
from jaxpolicy.io import checkpoint
from jaxpolicy.types import LoopState

directory, fatal_event, fatal_count = sys.argv[1], sys.argv[2], int(sys.argv[3])
state = LoopState(train={'x': jnp.arange(1000.0)}, env=(), key=jax.random.key(0))
manager = checkpoint.open_manager(directory)
checkpoint.save(manager, 1, state, {'epoch': 1})
manager.wait_until_finished()
count = 0

def hook(event, args):
    global count
    count += event == fatal_event
    if event == fatal_event and count == fatal_count:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
checkpoint.save(manager, 2, state.replace(train={'x': jnp.ones(1000)}), {'epoch': 2})
manager.wait_until_finished()
print('survived')
"""


@pytest.mark.parametrize('event,count', [('os.mkdir', 2), ('os.rename', 1)])
def test_sigkill_in_the_middle_of_a_save(tmp_path, event, count):
    """Killed with files half-written, and at the renaming that makes a checkpoint visible."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(_VICTIM), str(tmp_path), event, str(count)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert len(list(tmp_path.iterdir())) > 1, 'the second save had not begun'
    template = LoopState(train={'x': jnp.zeros(1000)}, env=(), key=jax.random.key(5))
    with checkpoint.open_manager(tmp_path) as manager:
        assert checkpoint.latest_step(manager) == 1
        restored, meta = checkpoint.restore(manager, 1, template)
        assert meta == {'epoch': 1}
        np.testing.assert_array_equal(restored.train['x'], np.arange(1000.0))
        assert checkpoint.save(manager, 2, restored, {'epoch': 2})
    with checkpoint.open_manager(tmp_path) as manager:
        assert checkpoint.latest_step(manager) == 2
    assert {path.name for path in tmp_path.iterdir()} == {'1', '2'}, 'leftovers are removed'
