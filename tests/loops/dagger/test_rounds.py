import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import bc, transforms
from jaxpolicy.agents.parts import risk
from jaxpolicy.data import aggregate, episodes, windows
from jaxpolicy.loops.dagger import gates
from jaxpolicy.loops.dagger import rounds as dagger
from jaxpolicy.ops import normalize
from jaxpolicy.types import Chunk
from tests.loops import point

CONFIG = dagger.Config(
    num_rounds=3,
    num_envs=32,
    queries_per_round=24,
    batch_size=64,
    first_updates=150,
    updates_per_round=160,
    restart=False,
    risk_updates=20,
)


def _demos() -> windows.Windows:
    """Only from the right: what to do on the left cannot be known."""
    x, rows, ends = [], [], []
    for start in np.linspace(0.4, 1.0, 20):
        x = start
        while abs(x) >= 0.05:
            a = float(np.clip(-x / point.STEP, -1.0, 1.0))
            rows.append((x, a))
            x += point.STEP * a
        ends.append(len(rows))
    obs, action = np.asarray(rows, np.float32).T[..., None]
    data = episodes.Episodes(obs, action, np.asarray(ends), {})
    return windows.make(data, 2, 4, 2)


def _parts(gate_name):
    config = bc.Config(
        head='mixture', num_components=2, width=32, num_blocks=1, pred_horizon=4,
        action_horizon=2, learning_rate=3e-3, warmup_updates=10,
    )  # fmt: skip
    agent = bc.make(config, point.SPEC)
    known = None
    if gate_name == 'thrifty':
        agent = transforms.ensemble(agent, 2)
        known = risk.make(risk.Config(32), point.SPEC, 2, 4, normalize.identity(point.SPEC.obs))
    gate = {
        'beta': lambda: gates.beta(gates.schedule('exponential', 0.5, 3)),
        'expert': lambda: gates.expert(1),
        'surprise': lambda: gates.surprise(agent),
        'thrifty': lambda: gates.thrifty(known.predict),
    }[gate_name]()
    make_expert = lambda weights: point.expert()  # noqa: E731
    config = dataclasses.replace(CONFIG, restart=gate_name == 'expert')  # the others go on
    return dagger.Parts(agent, point.env(), make_expert, gate, known, config, point.HORIZONS)


@pytest.fixture(scope='module')
def data():
    return dagger.Data(_demos(), ())


@functools.cache
def compiled(gate_name):
    """init and step of the loop with this gate, compiled once for all tests."""
    loop = dagger.make(_parts(gate_name))
    return jax.jit(loop.init), jax.jit(loop.step)


@pytest.mark.parametrize('name', gates.GATES)
def test_asking_mends_what_demonstrations_left_out(name, data):
    init, step = compiled(name)
    state = init(jax.random.key(0))
    rows = []
    for _ in range(4):
        state, metrics = step(state, data)
        rows.append(jax.device_get(metrics))
    success = [row['success_alone'] for row in rows]
    assert success[0] < 0.85 and success[-1] > 0.95, success
    assert rows[0]['queries'] == 0 and 0 < rows[-1]['queries'] <= 3 * 24
    assert rows[-1]['queries'] < rows[-1]['expert_steps'] <= 3 * rows[-1]['queries']
    assert rows[0]['success_with_expert'] >= success[0]
    count = int(state.memory.labels.count)
    taken = jax.tree.map(lambda x: np.asarray(x[:count]), state.memory.labels.chunks)
    assert taken.mask.any(1).all()  # nothing empty is among the labels
    assert step._cache_size() == 1


def test_unspent_budget_raises_the_next(data):
    init, step = compiled('expert')
    state = init(jax.random.key(0))
    scale = 1.0
    for _ in range(2):
        state, _ = step(state, data)
        taken = int(state.memory.steps.intervention.any(1).sum())  # blocks
        scale = float(np.clip(scale * CONFIG.queries_per_round / taken, 0.25, 8.0))
        assert taken > 0
        np.testing.assert_allclose(state.memory.budget_scale, scale, rtol=1e-5)


def test_worlds_that_break_are_counted_and_spoil_nothing(data):
    """Who begins far on the right loses sight of the point; the gate learns risks too."""
    parts = _parts('thrifty')
    whole = parts.env

    def step(state, action):
        new = whole.step(state, action)
        return new.replace(obs=jnp.where(new.obs > 0.7, jnp.nan, new.obs))

    loop = dagger.make(parts._replace(env=whole._replace(step=step)))
    state, run = jax.jit(loop.init)(jax.random.key(0)), jax.jit(loop.step)
    for _ in range(3):
        state, metrics = run(state, data)
        assert metrics['nan_worlds'] > 0
        assert 0.3 < metrics['success_alone'] < 1.0 and metrics['queries'] >= 0
        for leaf in jax.tree.leaves((state.train, state.memory.labels, state.memory.risk)):
            assert np.isfinite(np.asarray(leaf, np.float64)).all()


@pytest.mark.parametrize('gate, steps', [('expert', (150, 160)), ('beta', (150, 310))])
def test_a_round_can_learn_from_the_beginning_or_go_on(gate, steps, data):
    init, step = compiled(gate)
    state = init(jax.random.key(0))
    blocks = 2 * CONFIG.num_envs * point.HORIZONS.num_blocks * point.HORIZONS.action
    for total, updates in zip(steps, (150, 160), strict=True):
        state, metrics = step(state, data)
        assert (state.train.step, metrics['updates']) == (total, updates)
        assert metrics['env_steps'] == blocks + CONFIG.queries_per_round * 3  # Tp - To + 1


def test_a_round_continues_exactly(data):
    init, step = compiled('beta')
    state, _ = step(init(jax.random.key(3)), data)
    saved = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else
                         jnp.asarray(np.asarray(x)), state)  # fmt: skip
    once, again = step(state, data)[0], step(saved, data)[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b), once.memory.labels, again.memory.labels
    )


def test_labels_fill_up_and_are_sampled(data):
    sample = jax.jit(aggregate.sample, static_argnums=(3, 4))
    add, size = jax.jit(aggregate.add), 4000
    chunk = Chunk(np.full((3, 2, 1), -7, np.float32), np.zeros((3, 4, 1), np.float32),
                  np.ones((3, 4), bool))  # fmt: skip
    none = aggregate.make(8, jax.tree.map(lambda x: x[:1], chunk))
    batch = sample(data.demos, none, jax.random.key(0), size, 0.25)
    assert (np.asarray(batch.obs) >= 0).all()  # demonstrations only, which come from the right
    some = add(none, chunk, np.array([True, True, False]))
    more = add(some, chunk, np.array([True, False, False]))
    assert (some.count, more.count) == (2, 3)
    batch = sample(data.demos, more, jax.random.key(0), size, 0.25)
    assert abs((np.asarray(batch.obs)[:, 0, 0] == -7.0).mean() - 0.25) < 0.03
    batch = sample(data.demos, more, jax.random.key(0), size, 0.0)
    natural = 3 / (3 + windows.num_windows(data.demos))
    assert abs((np.asarray(batch.obs)[:, 0, 0] == -7.0).mean() - natural) < 0.02
