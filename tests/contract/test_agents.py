# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""What every agent must do, in one table: agents behind the transforms that they ship with."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxpolicy import registry
from jaxpolicy.agents import (
    a2c,
    bc,
    diffusion_policy,
    dqn,
    drifting,
    fast_td3,
    flow_map,
    iql,
    mip,
    ppo,
    ppo_recurrent,
    reinforce,
    sac,
    td3,
    transforms,
)
from jaxpolicy.io import checkpoint
from jaxpolicy.ops import normalize
from jaxpolicy.types import Agent, Chunk, LoopState, Spec, Transition

A, TO, TP = 2, 2, 4
KEY = jax.random.key(0)
U, M = 2, 8  # minibatches of a replay agent's update, discrete actions
SPEC = Spec(
    obs={
        'arm': jax.ShapeDtypeStruct((3,), jnp.float32),
        'goal': jax.ShapeDtypeStruct((2,), jnp.float32),
    },
    action=jax.ShapeDtypeStruct((A,), jnp.float32),
)
DISCRETE = Spec(SPEC.obs, jax.ShapeDtypeStruct((M,), jnp.int8))
HORIZONS = {
    'obs_horizon': TO,
    'pred_horizon': TP,
    'action_horizon': 2,
    'warmup_updates': 1,
    'learning_rate': 0.02,
}


class Case(NamedTuple):
    make: Any  # () -> Agent
    batch: Any  # key -> batch; 16 rows or worlds
    batch_axis: int  # the axis of the batch to shard
    obs: Any  # key -> obs of 5 rows, as the policy takes them
    action_shape: tuple[int, ...]
    action_dtype: Any = jnp.float32
    num_updates: int = 1  # gradient updates of one call of `update`


def _obs(key, *lead):
    keys = jax.random.split(key, 2)
    return {
        name: 3.0 + 2.0 * jax.random.normal(k, (*lead, *s.shape))
        for k, (name, s) in zip(keys, SPEC.obs.items(), strict=True)
    }


def _normalised(agent: Agent) -> Agent:
    obs = _obs(jax.random.key(3), 50)
    action = normalize.Affine(jnp.asarray([0.1, 0.2]), jnp.asarray([0.8, 1.5]))
    agent = transforms.normalize_action(agent, action)
    return transforms.normalize_obs(agent, normalize.fit_min_max(obs))


def _chunks(key):
    obs_key, action_key = jax.random.split(key)
    return Chunk(
        obs=_obs(obs_key, 16, TO),
        action=jax.random.uniform(action_key, (16, TP, A), minval=-1.0),
        mask=jnp.arange(TP) < 1 + jnp.arange(16)[:, None] % TP,
    )


def _rollouts(key):
    keys = jax.random.split(key, 8)
    mean, log_std = 0.1 * jax.random.normal(keys[0], (4, 16, A)), jnp.full((4, 16, A), -0.5)
    action = mean + jnp.exp(log_std) * jax.random.normal(keys[1], (4, 16, A))
    z = (action - mean) / jnp.exp(log_std)
    log_prob = jnp.sum(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi) - log_std, axis=-1)
    return Transition(
        obs=_obs(keys[2], 4, 16),
        action=action,
        reward=jax.random.normal(keys[3], (4, 16)),
        termination=jax.random.bernoulli(keys[4], 0.2, (4, 16)),
        truncation=jax.random.bernoulli(keys[5], 0.2, (4, 16)),
        next_obs=_obs(keys[6], 4, 16),
        extras={
            'log_prob': log_prob,
            'mean': mean,
            'log_std': log_std,
            'valid': jax.random.bernoulli(keys[7], 0.9, (4, 16)).astype(jnp.float32),
        },
    )


def _imitation(module, **fields) -> Case:
    def make():
        return _normalised(module.make(module.Config(**HORIZONS, **fields), SPEC))

    return Case(make, _chunks, 0, lambda key: _obs(key, 5, TO), (5, TP, A))


def _online(module, spec=SPEC, **fields) -> Case:
    def make():
        return transforms.standardize_obs(module.make(module.Config(**fields), spec), spec.obs)

    def batch(key):
        key, action_key = jax.random.split(key)
        batch = _rollouts(key).replace(carry=_carry(make(), 16))
        return batch.replace(action=_choices(action_key, 4, 16)) if spec is DISCRETE else batch

    shape = (5, *spec.action.shape)
    num_updates = fields.get('num_epochs', 1) * fields.get('num_minibatches', 1)
    num_updates *= fields.get('num_baseline_steps', 1)
    return Case(make, batch, 1, lambda key: _obs(key, 5), shape, spec.action.dtype, num_updates)


def _choices(key, *lead):
    """Discrete actions."""
    return jax.nn.one_hot(jax.random.randint(key, lead, 0, M), M, dtype=jnp.int8)


def _replay(module, wrap=None, **fields) -> Case:
    """Agents that learn from minibatches [U, B] of transitions; `wrap` is around the agent."""
    discrete = module is dqn
    spec = DISCRETE if discrete else SPEC

    def make():
        agent = module.make(module.Config(learning_rate=0.02, **fields), spec)
        return (wrap or _standardized)(agent)

    def batch(key):
        rollout_key, action_key, m_key = jax.random.split(key, 3)
        batch = jax.tree.map(lambda x: x[:U], _rollouts(rollout_key))
        action = jnp.clip(batch.action, -1.0, 1.0)
        if discrete:
            action = _choices(action_key, U, 16)
        discount = 0.9 ** jax.random.randint(m_key, (U, 16), 1, 4).astype(jnp.float32)
        extras = {'valid': batch.extras['valid'], 'discount': discount}
        return batch.replace(action=action, extras=extras)

    shape = (5, *spec.action.shape)
    return Case(make, batch, 1, lambda key: _obs(key, 5), shape, spec.action.dtype, U)


def _standardized(agent: Agent) -> Agent:
    """Behind running statistics that have seen something."""
    agent = transforms.standardize_replay(agent, SPEC.obs)

    def init(key):
        return agent.observe(agent.init(key), _rollouts(jax.random.key(3)))

    return agent._replace(init=init)


def _carry(agent, num):
    """What the policy may carry amid an episode; () for one that carries nothing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: agent.policy(agent.init(key)).init(_obs(key, num)), KEY)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32), shapes)


def _taught(case: Case) -> Case:
    """With a teacher that says something: networks say 0 at first.

    Its student begins as it, so weights are moved at random: moved alike, a norm would undo it.
    """

    def make():
        agent = case.make()

        def init(key):
            state = agent.init(key)
            rng = np.random.default_rng(0)
            move = lambda x: x + jnp.asarray(rng.normal(0, 0.1, x.shape), x.dtype)  # noqa: E731
            return flow_map.teach(state, jax.tree.map(move, state.params['teacher']))

        return agent._replace(init=init)

    return case._replace(make=make)


_bc = functools.partial(_imitation, bc, width=16, num_blocks=1, num_components=3)
_diffusion = functools.partial(
    _imitation, diffusion_policy, width=16, num_blocks=1, num_train_steps=8, num_sample_steps=3
)
_epochs = functools.partial(_online, hidden=(16,), num_epochs=2, num_minibatches=2)
_once = functools.partial(_online, hidden=(16,), learning_rate=0.1)
_mlp = functools.partial(_imitation, network='mlp', width=16, num_blocks=1)
CASES = {
    'bc_mse': _bc(head='mse'),
    'bc_gaussian': _bc(head='gaussian'),
    'bc_mixture': _bc(head='mixture'),
    'diffusion_mlp': _diffusion(
        network='mlp', sampler='ddim', objective='v', guidance=2.0, condition_dropout=0.1
    ),
    'flow_transformer': _diffusion(
        network='transformer',
        num_heads=2,
        conditioning='cross',
        objective='flow',
        sampler='euler',
    ),
    'diffusion_unet': _diffusion(dims=(4, 8), kernel_size=3, num_groups=2),
    'mip': _mlp(mip),
    'mean_flow': _mlp(flow_map),
    'shortcut': _mlp(flow_map, loss='shortcut', num_sample_steps=2),
    'consistency': _taught(_mlp(flow_map, loss='consistency_trajectory')),
    'drifting': _mlp(drifting, num_samples=3),
    'ppo': _epochs(ppo),
    'ppo_asymmetric': _epochs(ppo, actor_obs=('arm',)),
    'ppo_gru': _epochs(ppo_recurrent, memory_size=16),
    'ppo_lstm': _epochs(ppo_recurrent, memory_size=16, cell='lstm', actor_obs=('arm',)),
    'a2c': _once(a2c, actor_obs=('arm',)),
    'a2c_discrete': _once(a2c, DISCRETE),
    'reinforce': _once(reinforce, baseline_learning_rate=0.1, num_baseline_steps=2),
    'reinforce_discrete': _once(reinforce, DISCRETE, critic_obs=('arm',)),
    'sac': _replay(sac, hidden=(16,)),
    'redq': _replay(
        sac, hidden=(16,), num_critics=3, layer_norm=True, mean_value=True, actor_delay=2
    ),
    'td3': _replay(td3, hidden=(16,)),
    'td3_bc': _replay(td3, _normalised, hidden=(16,), bc_weight=0.4),
    'fast_td3': _replay(fast_td3, actor_hidden=(16,), critic_hidden=(16,), num_atoms=11),
    'dqn': _replay(dqn, hidden=(16,)),
    'iql': _replay(iql, _normalised, hidden=(16,)),
}


def _act(agent):
    """How the agent acts amid an episode, as one function of the state and the carry."""

    def act(state, carry, obs, key, deterministic=False):
        return agent.policy(state, deterministic).act(carry, obs, key)[1:]

    return act


class Built(NamedTuple):
    case: Case
    agent: Agent
    init: Any
    update: Any  # jitted, donates its state


@functools.cache
def _build(name) -> Built:
    agent = CASES[name].make()
    update = jax.jit(agent.update, donate_argnums=0)
    return Built(CASES[name], agent, jax.jit(agent.init), update)


@pytest.fixture(params=CASES)
def built(request) -> Built:
    return _build(request.param)


@pytest.fixture(params=CASES)
def plain(request, monkeypatch) -> tuple[Case, Agent]:
    """The case with plain gradient descent: Adam turns rounding of tiny gradients into steps."""
    monkeypatch.setattr(optax, 'rmsprop', lambda rate, **_: optax.sgd(rate))
    monkeypatch.setattr(optax, 'adam', lambda rate: optax.sgd(rate))
    monkeypatch.setattr(optax, 'adamw', lambda schedule, **_: optax.sgd(0.1))
    return CASES[request.param], CASES[request.param].make()


def _shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def _bits(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def _assert_close(found, expected, moved_from):
    """Close leaf by leaf, on the scale of how far the update moved that leaf."""
    moved = 0.0
    for a, b, c in zip(*map(jax.tree.leaves, (found, expected, moved_from)), strict=True):
        scale = float(np.abs(np.asarray(b, np.float64) - np.asarray(c)).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-3 * scale + 1e-7)
        moved = max(moved, scale)
    assert moved > 1e-3  # or the comparison would say nothing


def test_init_is_known_without_running_it(built):
    key = jax.random.key(0)
    abstract, state = jax.eval_shape(built.agent.init, key), built.init(key)
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    assert _shapes(abstract) == _shapes(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert state.step == 0


def test_update_compiles_once_donates_and_counts(built):
    state = built.init(jax.random.key(0))
    abstract = _shapes(state)
    for i in range(3):
        before = state
        batch = built.case.batch(jax.random.key(i))
        state, metrics = built.update(before, batch, jax.random.key(10 + i))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
    assert built.update._cache_size() == 1
    assert _shapes(state) == abstract and state.step == 3 * built.case.num_updates
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for name, value in metrics.items():
        shape = batch.reward.shape if name == 'td_error' else ()  # which priorities come from
        assert value.shape == shape and np.isfinite(value).all(), name
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()


def test_seeds_stack_and_batches_shard_over_eight_devices(plain):
    """In one program, which does for each seed what an update alone on one device does."""
    case, agent = plain
    init, update = jax.jit(agent.init), jax.jit(agent.update)
    devices = jax.devices()
    assert len(devices) == 8
    mesh = Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))
    spec, first = (NamedSharding(mesh, P(*[None] * i, 'data')) for i in (case.batch_axis, 0))
    keys, batch = jax.random.split(jax.random.key(0), 3), case.batch(jax.random.key(1))
    each = [init(key) for key in keys]
    states = jax.tree.map(lambda *x: jnp.stack(x), *each)
    assert _shapes(states) == _shapes(jax.eval_shape(jax.vmap(agent.init), keys))
    states, keys = jax.device_put((states, keys), NamedSharding(mesh, P()))
    sharded = jax.device_put(batch, spec)
    if isinstance(batch, Transition):  # what is remembered leads with the worlds
        sharded = sharded.replace(carry=jax.device_put(batch.carry, first))
    assert len(sharded.action.addressable_shards) == 8
    assert sharded.action.addressable_shards[0].data.size == batch.action.size // 8
    together = jax.jit(jax.vmap(agent.update, in_axes=(0, None, 0)))
    stacked, stacked_metrics = jax.device_get(together(states, sharded, keys))
    for i, start in enumerate(each):
        alone, metrics = update(start, batch, jax.device_get(keys)[i])
        _assert_close(jax.tree.map(lambda x: x[i], stacked), alone, start)
        for name, value in metrics.items():
            np.testing.assert_allclose(stacked_metrics[name][i], value, rtol=1e-3, atol=1e-5)


def test_checkpoints_are_bitwise(built, tmp_path):
    state = built.init(jax.random.key(0))
    state, _ = built.update(state, built.case.batch(jax.random.key(1)), jax.random.key(2))
    loop = LoopState(train=state, env=(), key=jax.random.key(3))
    template = LoopState(
        train=jax.eval_shape(built.agent.init, jax.random.key(0)),
        env=(),
        key=jax.eval_shape(lambda: jax.random.key(0)),
    )
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, loop, {})
        restored, _ = checkpoint.restore(manager, 1, template)
    assert jax.tree.structure(restored) == jax.tree.structure(loop)
    assert _shapes(restored) == _shapes(loop)
    for a, b in zip(_bits(restored), _bits(loop), strict=True):
        np.testing.assert_array_equal(a, b)
    # and training goes on as if nothing had happened, without another compilation
    batch, key = built.case.batch(jax.random.key(4)), jax.random.key(5)
    compiled = built.update._cache_size()
    ours, theirs = built.update(state, batch, key), built.update(restored.train, batch, key)
    for a, b in zip(_bits(theirs), _bits(ours), strict=True):
        np.testing.assert_array_equal(a, b)
    assert built.update._cache_size() == compiled


def test_act(built):
    state, obs = built.init(jax.random.key(0)), built.case.obs(jax.random.key(1))
    carry = _carry(built.agent, 5)
    act = jax.jit(_act(built.agent), static_argnames='deterministic')
    for deterministic in (False, True):
        action, extras = act(state, carry, obs, jax.random.key(2), deterministic=deterministic)
        assert action.shape == built.case.action_shape
        assert action.dtype == built.case.action_dtype
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((action, extras)))
        assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(extras))
        again, _ = act(state, carry, obs, jax.random.key(2), deterministic=deterministic)
        np.testing.assert_array_equal(action, again)
    # each row is decided by itself: the first two rows alone give the same modes
    if len(built.case.action_shape) == 2:  # (chunks are sampled with noise for the whole batch)
        two = jax.tree.map(lambda x: x[:2], (carry, obs))
        few, _ = act(state, *two, jax.random.key(2), deterministic=True)
        np.testing.assert_allclose(few, action[:2], atol=1e-5)


def test_statistics_travel_in_the_state(built):
    """Acting needs nothing but the state: other statistics, other actions."""
    state, obs = built.init(jax.random.key(0)), built.case.obs(jax.random.key(1))
    for i in range(2):  # the first one moves nothing: the learning rate warms up from 0
        batch = built.case.batch(jax.random.key(2 + i))
        state, _ = built.update(state, batch, jax.random.key(4 + i))
    carry = _carry(built.agent, 5)
    act = jax.jit(functools.partial(_act(built.agent), deterministic=True))
    action, _ = act(state, carry, obs, jax.random.key(2))
    stats = state.stats['obs']
    leaves = stats.mean if isinstance(stats, normalize.Welford) else stats.shift
    assert _shapes(leaves) == {name: (s.shape, s.dtype) for name, s in SPEC.obs.items()}
    shifted = jax.tree.map(lambda x: x + 1.0, leaves)
    field = 'mean' if isinstance(stats, normalize.Welford) else 'shift'
    other = state.replace(stats={**state.stats, 'obs': stats.replace(**{field: shifted})})
    moved, _ = act(other, carry, _shift(obs), jax.random.key(2))
    np.testing.assert_allclose(moved, action, atol=2e-5)  # both moved: nothing changed
    moved, _ = act(other, carry, obs, jax.random.key(2))
    assert np.abs(moved - action).max() > 1e-3


def _shift(obs):
    return jax.tree.map(lambda x: x + 1.0, obs)


@pytest.mark.parametrize('name', [n for n, case in CASES.items() if case.batch_axis == 1])
def test_broken_transitions_teach_nothing(name):
    built = _build(name)
    batch, key = built.case.batch(jax.random.key(1)), jax.random.key(2)
    valid = batch.extras['valid']
    assert 0 < valid.sum() < valid.size

    def break_with(value):
        def broken(x):
            keep = valid.reshape(valid.shape + (1,) * (x.ndim - 2)) > 0
            return jnp.where(keep, x, jnp.asarray(value).astype(x.dtype))

        fields = ('obs', 'action', 'reward', 'next_obs')
        return batch.replace(**{f: jax.tree.map(broken, getattr(batch, f)) for f in fields})

    states = [
        built.update(built.init(jax.random.key(0)), break_with(value), key)[0]
        for value in (0.5, np.nan)
    ]
    for a, b in zip(*map(_bits, states), strict=True):
        np.testing.assert_array_equal(a, b)


def _traced(f, *args):
    """JAX looks for reused keys when it traces a jitted function."""
    return jax.eval_shape(jax.jit(f), *args)


def test_no_key_is_used_twice(built):
    key = jax.random.key(0)
    batch, obs = built.case.batch(key), built.case.obs(key)
    carry = _carry(built.agent, 5)
    with jax.debug_key_reuse(True):
        state = _traced(built.agent.init, key)
        state, _ = _traced(built.agent.update, state, batch, key)
        _traced(_act(built.agent), state, carry, obs, key)


def test_the_key_reuse_check_is_awake():
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    _traced(twice, jax.random.key(0))  # an earlier trace is not taken for a checked one
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        _traced(twice, jax.random.key(0))


@pytest.mark.parametrize(
    'name', sorted(set(registry.TABLES['agents']) - {'a2c', 'dqn', 'reinforce'})
)
def test_continuous_agents_refuse_choices(name):
    module = registry.resolve('agents', name, 'config.agent.name')
    with pytest.raises(ValueError, match=r'env\.name: expected continuous .* found discrete'):
        module.make(module.Config(), DISCRETE)
