# pyright: reportAttributeAccessIssue=false
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxpolicy.agents import bc
from jaxpolicy.data import episodes, windows
from jaxpolicy.io import checkpoint
from jaxpolicy.loops import offline
from jaxpolicy.types import Agent, Spec

NUM_WINDOWS, BATCH = 22, 5
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))


def _data() -> windows.Windows:
    """One window per row (To = Tp = Ta = 1); the observation holds the number of the row."""
    rows = np.arange(NUM_WINDOWS, dtype=np.float32)
    data = episodes.Episodes(
        obs=np.stack([rows, np.cos(rows)], axis=1),
        action=np.sin(rows)[:, None],
        episode_ends=np.array([10, NUM_WINDOWS]),
        info={},
    )
    return windows.make(data, 1, 1, 1)


class Counts(struct.PyTreeNode):
    step: jax.Array
    seen: jax.Array
    last: jax.Array
    noise: jax.Array


def _counting() -> Agent:
    """Counts how often each window was seen, and remembers the last batch and key."""

    def init(key):
        seen, last = jnp.zeros(NUM_WINDOWS, jnp.int32), jnp.zeros(BATCH, jnp.int32)
        return Counts(jnp.zeros((), jnp.int32), seen, last, jnp.zeros(()))

    def update(state, batch, key):
        index = batch.obs[:, 0, 0].astype(jnp.int32)
        seen = state.seen.at[index].add(1)
        state = Counts(state.step + 1, seen, index, jax.random.uniform(key))
        return state, {'mean': jnp.mean(batch.obs[:, 0, 0])}

    return Agent(init, update, lambda *_: _)


def test_an_epoch_sees_each_window_at_most_once():
    loop, data = offline.make(_counting(), BATCH), _data()
    step = jax.jit(loop.step)
    state, totals = loop.init(jax.random.key(0)), np.zeros(NUM_WINDOWS, int)
    for _ in range(4):
        before = np.asarray(state.train.seen)
        state, metrics = step(state, data)
        seen = np.asarray(state.train.seen) - before
        assert seen.max() == 1 and seen.sum() == NUM_WINDOWS // BATCH * BATCH
        index = np.flatnonzero(seen)
        np.testing.assert_allclose(metrics['mean'], index.mean(), rtol=1e-5)
        totals += seen
    assert totals.min() >= 1  # whoever was left out had another chance
    assert step._cache_size() == 1


def test_the_order_comes_from_the_key():
    loop, data = offline.make(_counting(), BATCH), _data()
    step = jax.jit(loop.step)
    one, _ = step(loop.init(jax.random.key(0)), data)
    same, _ = step(loop.init(jax.random.key(0)), data)
    other, _ = step(loop.init(jax.random.key(1)), data)
    later, _ = step(one, data)
    np.testing.assert_array_equal(one.train.last, same.train.last)
    for different in (other, later):
        assert (one.train.last != different.train.last).any()
        assert one.train.noise != different.train.noise


def test_epochs_in_one_call_are_different_epochs():
    loop, data = offline.make(_counting(), NUM_WINDOWS // 2, epochs_per_round=3), _data()
    train = _counting().init(None).replace(last=jnp.zeros(NUM_WINDOWS // 2, jnp.int32))
    state = loop.init(jax.random.key(0)).replace(train=train)
    state, metrics = jax.jit(loop.step)(state, data)
    np.testing.assert_array_equal(state.train.seen, 3)
    assert metrics['updates'] == 3 * 2 and metrics['env_steps'] == 0
    assert metrics['updates'].dtype == metrics['env_steps'].dtype == jnp.int32
    np.testing.assert_allclose(metrics['mean'], (NUM_WINDOWS - 1) / 2, rtol=1e-6)


def test_a_batch_larger_than_the_data_is_refused():
    assert offline.num_updates(NUM_WINDOWS, BATCH) == 4
    with pytest.raises(ValueError, match='at most the 22 windows of the data, found 23'):
        offline.num_updates(NUM_WINDOWS, 23)


def _bits(state):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state)
    ]


def test_a_restored_run_continues_bitwise(tmp_path):
    config = bc.Config(
        head='mixture',
        obs_horizon=1,
        pred_horizon=1,
        action_horizon=1,
        width=8,
        num_blocks=1,
        warmup_updates=2,
        decay_updates=8,
    )
    loop, data = offline.make(bc.make(config, SPEC), BATCH), _data()
    init, step = jax.jit(loop.init), jax.jit(loop.step, donate_argnums=0)
    whole, _ = step(init(jax.random.key(0)), data)
    start = _bits(whole)
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, whole, {})
        template = jax.eval_shape(loop.init, jax.random.key(0))
        resumed, _ = checkpoint.restore(manager, 1, template)
    whole, metrics = step(whole, data)
    resumed, resumed_metrics = step(resumed, data)
    for a, b in zip(_bits((whole, metrics)), _bits((resumed, resumed_metrics)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(start, _bits(whole), strict=True))
    assert whole.train.step == 2 * (NUM_WINDOWS // BATCH) and step._cache_size() == 1


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        loop = offline.make(_counting(), BATCH, epochs_per_round=2)
        jax.jit(loop.step)(jax.jit(loop.init)(jax.random.key(0)), _data())
