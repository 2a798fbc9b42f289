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
from tests import acting, weights

A, TO, TP = 2, 2, 4
KEY = jax.random.key(0)
SEEDS = jax.random.split(KEY, 3)
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
    batch: Any  # seed -> batch of NumPy arrays; 16 rows or worlds
    batch_axis: int  # the axis of the batch to shard
    lead: tuple[int, ...]  # the first axes of an observation that the policy takes; 5 rows
    action_shape: tuple[int, ...]
    action_dtype: Any = jnp.float32
    num_updates: int = 1  # gradient updates of one call of `update`


def _obs(seed, *lead):
    rng = np.random.default_rng(seed)
    return {name: _normal(rng, *lead, *s.shape, mean=3.0, std=2.0) for name, s in SPEC.obs.items()}


def _normal(rng, *shape, mean=0.0, std=1.0):
    return rng.normal(mean, std, shape).astype(np.float32)


def _normalised(agent: Agent) -> Agent:
    obs = _obs(3, 50)
    action = normalize.Affine(jnp.asarray([0.1, 0.2]), jnp.asarray([0.8, 1.5]))
    agent = transforms.normalize_action(agent, action)
    return transforms.normalize_obs(agent, normalize.fit_min_max(obs))


def _chunks(seed):
    rng = np.random.default_rng(seed)
    return Chunk(
        obs=_obs(seed, 16, TO),
        action=rng.uniform(-1.0, 1.0, (16, TP, A)).astype(np.float32),
        mask=np.arange(TP) < 1 + np.arange(16)[:, None] % TP,
    )


def _rollouts(seed):
    rng = np.random.default_rng(seed)
    mean, log_std = _normal(rng, 4, 16, A, std=0.1), np.full((4, 16, A), -0.5, np.float32)
    z = _normal(rng, 4, 16, A)
    return Transition(
        obs=_obs(seed, 4, 16),
        action=mean + np.exp(log_std) * z,
        reward=_normal(rng, 4, 16),
        termination=rng.random((4, 16)) < 0.2,
        truncation=rng.random((4, 16)) < 0.2,
        next_obs=_obs(seed + 1000, 4, 16),
        extras={
            'log_prob': np.sum(
                -0.5 * z**2 - 0.5 * np.log(2 * np.pi, dtype='f4') - log_std, axis=-1
            ),
            'mean': mean,
            'log_std': log_std,
            'valid': (rng.random((4, 16)) < 0.9).astype(np.float32),
        },
    )


def _imitation(module, **fields) -> Case:
    @functools.cache
    def make():
        return _normalised(module.make(module.Config(**HORIZONS, **fields), SPEC))

    return Case(make, _chunks, 0, (5, TO), (5, TP, A))


def _cloned_choices() -> Case:
    @functools.cache
    def make():
        config = bc.Config(head='categorical', width=16, num_blocks=1, **HORIZONS)
        obs = normalize.fit_min_max(_obs(3, 50))
        return transforms.normalize_obs(bc.make(config, DISCRETE), obs)

    def batch(seed):
        return _chunks(seed).replace(action=_choices(seed, 16, TP))

    return Case(make, batch, 0, (5, TO), (5, TP, M), jnp.int8)


def _online(module, spec=SPEC, **fields) -> Case:
    @functools.cache
    def make():
        return transforms.standardize_obs(module.make(module.Config(**fields), spec), spec.obs)

    def batch(seed):
        batch = _rollouts(seed).replace(carry=_carry(make(), 16))
        return batch.replace(action=_choices(seed, 4, 16)) if spec is DISCRETE else batch

    shape = (5, *spec.action.shape)
    num_updates = fields.get('num_epochs', 1) * fields.get('num_minibatches', 1)
    num_updates *= fields.get('num_baseline_steps', 1)
    return Case(make, batch, 1, (5,), shape, spec.action.dtype, num_updates)


def _choices(seed, *lead):
    """Discrete actions."""
    return np.eye(M, dtype=np.int8)[np.random.default_rng(seed).integers(M, size=lead)]


def _replay(module, wrap=None, **fields) -> Case:
    """Agents that learn from minibatches [U, B] of transitions; `wrap` is around the agent."""
    discrete = module is dqn
    spec = DISCRETE if discrete else SPEC

    @functools.cache
    def make():
        agent = module.make(module.Config(learning_rate=0.02, **fields), spec)
        return (wrap or _standardized)(agent)

    def batch(seed):
        batch = jax.tree.map(lambda x: x[:U], _rollouts(seed))
        action = _choices(seed, U, 16) if discrete else np.clip(batch.action, -1.0, 1.0)
        num_steps = np.random.default_rng(seed).integers(1, 4, size=(U, 16))
        discount = (0.9**num_steps).astype(np.float32)
        extras = {'valid': batch.extras['valid'], 'discount': discount}
        return batch.replace(action=action, extras=extras)

    shape = (5, *spec.action.shape)
    return Case(make, batch, 1, (5,), shape, spec.action.dtype, U)


def _standardized(agent: Agent) -> Agent:
    """Behind running statistics that have seen something."""
    agent = transforms.standardize_replay(agent, SPEC.obs)

    def init(key):
        return agent.observe(agent.init(key), _rollouts(3))

    return agent._replace(init=init)


@functools.cache
def _carry(agent, num):
    """What the policy may carry amid an episode; () for one that carries nothing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: agent.policy(agent.init(key)).init(_obs(0, num)), KEY)
    return jax.tree.map(lambda s: _normal(rng, *s.shape, std=0.3), shapes)


def _taught(case: Case) -> Case:
    """With a teacher that says something: networks say 0 at first.

    Its student begins as it, so weights are moved at random: moved alike, a norm would undo it.
    """

    @functools.cache
    def make():
        agent = case.make()

        def init(key):
            state = agent.init(key)
            rng = np.random.default_rng(0)
            move = lambda x: x + _normal(rng, *x.shape, std=0.1)  # noqa: E731
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
    'bc_categorical': _cloned_choices(),
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
    'diffusion_unet': _diffusion(dims=(4,), kernel_size=3, num_groups=2),
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


# Beside each of the others stands one of these, a case of the same agent. Quick tests run these,
# and trace the others, for which the slow tests run the same as for these.
RUN = {
    'bc_mixture', 'diffusion_mlp', 'mip', 'mean_flow', 'drifting', 'ppo_asymmetric', 'ppo_gru',
    'a2c', 'reinforce_discrete', 'redq', 'td3', 'fast_td3', 'dqn', 'iql',
}  # fmt: skip
# The same for the program of several seeds and devices: one of each kind of batches and updates.
SHARDED = {'diffusion_mlp', 'ppo_gru', 'redq', 'reinforce_discrete'}


def _cases(quick, names=tuple(CASES), **options):
    """Parametrises with these cases, of which all but the `quick` ones are slow."""
    params = [pytest.param(n, marks=[pytest.mark.slow] * (n not in quick)) for n in names]
    return pytest.mark.parametrize('name', params, **options)


def _traced(f, *args, **options):
    """Traced for such arguments while JAX looks for reused keys; compiled, it refuses others."""
    with jax.debug_key_reuse(True):
        return jax.jit(f, **options).trace(*args)


class Built:
    """A case, and the programs that all tests of it share: each is traced and compiled once."""

    def __init__(self, case: Case):
        self.case, self.agent = case, case.make()
        self.obs, self.carry = _obs(1, *case.lead), _carry(self.agent, 5)  # what `act` takes

    @functools.cached_property
    def abstract(self):
        return jax.eval_shape(self.agent.init, KEY)

    @functools.cached_property
    def traced_init(self):
        return _traced(self.agent.init, KEY)

    @functools.cached_property
    def traced_update(self):
        inputs = (self.abstract, self.case.batch(0), KEY)
        return _traced(self.agent.update, *inputs, donate_argnums=0)

    @functools.cached_property
    def traced_act(self):
        def act(state, carry, obs, key, deterministic):
            return self.agent.policy(state, deterministic).act(carry, obs, key)[1:]

        return _traced(act, self.abstract, self.carry, self.obs, KEY, False)

    @functools.cached_property
    def init(self):
        return self.traced_init.lower().compile()

    @functools.cached_property
    def update(self):
        """Donates its state."""
        return self.traced_update.lower().compile()

    @functools.cached_property
    def act(self):
        """Amid an episode: (state, carry, obs, key, deterministic) -> (action, extras)."""
        return self.traced_act.lower().compile()


@functools.cache
def _build(name) -> Built:
    return Built(CASES[name])


@pytest.fixture(scope='module', autouse=True)
def _linear_optimisers():
    """Gradient descent with momentum has a state, and is linear in the gradients.

    Adam turns rounding of tiny gradients into steps, so that nothing could be compared.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optax, 'rmsprop', lambda rate, **_: optax.sgd(rate, 0.9))
        patch.setattr(optax, 'adam', lambda rate: optax.sgd(rate, 0.9))
        patch.setattr(optax, 'adamw', lambda rate, **_: optax.sgd(lambda count: 0.1, 0.9))
        yield


@pytest.fixture
def built(name) -> Built:
    return _build(name)


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


@_cases(RUN)
def test_init_is_known_without_running_it(built):
    abstract, state = built.abstract, built.init(KEY)
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    assert _shapes(abstract) == _shapes(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert state.step == 0


@_cases(RUN)
def test_update_compiles_once_donates_and_counts(built):
    state = built.init(KEY)
    for i in range(3):  # a program that is compiled refuses a state of other types
        before = state
        batch = jax.device_put(built.case.batch(i))
        state, metrics = built.update(before, batch, jax.random.key(10 + i))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
    assert _shapes(state) == _shapes(built.abstract) and state.step == 3 * built.case.num_updates
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for name, value in metrics.items():
        shape = batch.reward.shape if name == 'td_error' else ()  # which priorities come from
        assert value.shape == shape and np.isfinite(value).all(), name
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()


@_cases(SHARDED)
def test_seeds_stack_and_batches_shard_over_eight_devices(name):
    """In one program, which does for each seed what an update alone on one device does."""
    built = _build(name)
    case, agent = built.case, built.agent
    devices = jax.devices()
    assert len(devices) == 8
    mesh = Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))
    spec, first = (NamedSharding(mesh, P(*[None] * i, 'data')) for i in (case.batch_axis, 0))
    batch, keys = case.batch(1), jax.device_put(SEEDS, NamedSharding(mesh, P()))
    each = [jax.device_get(built.init(key)) for key in SEEDS]
    states = jax.tree.map(lambda *x: np.stack(x), *each)
    assert _shapes(states) == _shapes(jax.eval_shape(jax.vmap(agent.init), SEEDS))
    states = jax.device_put(states, NamedSharding(mesh, P()))
    sharded = jax.device_put(batch, spec)
    if isinstance(batch, Transition):  # what is remembered leads with the worlds
        sharded = sharded.replace(carry=jax.device_put(batch.carry, first))
    assert len(sharded.action.addressable_shards) == 8
    assert sharded.action.addressable_shards[0].data.size == batch.action.size // 8
    together = jax.jit(jax.vmap(agent.update, in_axes=(0, None, 0)))
    stacked, stacked_metrics = jax.device_get(together(states, sharded, keys))
    for i, (start, key) in enumerate(zip(each, SEEDS, strict=True)):
        alone, metrics = jax.device_get(built.update(built.init(key), batch, key))
        _assert_close(jax.tree.map(lambda x: x[i], stacked), alone, start)
        for name, value in metrics.items():
            np.testing.assert_allclose(stacked_metrics[name][i], value, rtol=1e-3, atol=1e-5)


@_cases(RUN)
def test_checkpoints_are_bitwise(built, tmp_path):
    state, _ = built.update(built.init(KEY), built.case.batch(1), jax.random.key(2))
    loop = LoopState(train=state, env=(), key=jax.random.key(3))
    template = LoopState(
        train=built.abstract,
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
    # and training goes on as if nothing had happened, in the same program
    batch, key = built.case.batch(4), jax.random.key(5)
    ours, theirs = built.update(state, batch, key), built.update(restored.train, batch, key)
    for a, b in zip(_bits(theirs), _bits(ours), strict=True):
        np.testing.assert_array_equal(a, b)


@_cases(RUN)
def test_act(built):
    state, inputs = built.init(KEY), (built.carry, built.obs)
    for deterministic in (False, True):
        action, extras = built.act(state, *inputs, jax.random.key(2), deterministic)
        assert action.shape == built.case.action_shape
        assert action.dtype == built.case.action_dtype
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((action, extras)))
        assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(extras))
        again, _ = built.act(state, *inputs, jax.random.key(2), deterministic)
        np.testing.assert_array_equal(action, again)
    # each row is decided by itself: the first two rows beside others give the same modes
    if len(built.case.action_shape) == 2:  # (chunks are sampled with noise for the whole batch)
        other = jax.tree.map(lambda x: np.concatenate([x[:2], 0.5 - x[2:]]), inputs)
        few, _ = built.act(state, *other, jax.random.key(2), True)
        np.testing.assert_allclose(few[:2], action[:2], atol=1e-5)


@_cases(RUN)
def test_statistics_travel_in_the_state(built):
    """Acting needs nothing but the state: other statistics, other actions."""
    state = built.init(KEY)
    for i in range(2):
        state, _ = built.update(state, built.case.batch(2 + i), jax.random.key(4 + i))

    def act(state, obs):
        return np.asarray(built.act(state, built.carry, obs, jax.random.key(2), True)[0])

    action = act(state, built.obs)
    stats = state.stats['obs']
    leaves = stats.mean if isinstance(stats, normalize.Welford) else stats.shift
    assert _shapes(leaves) == {name: (s.shape, s.dtype) for name, s in SPEC.obs.items()}
    field = 'mean' if isinstance(stats, normalize.Welford) else 'shift'
    stats = stats.replace(**{field: _shift(leaves)})
    other = state.replace(stats={**state.stats, 'obs': stats})
    np.testing.assert_allclose(act(other, _shift(built.obs)), action, atol=2e-5)  # both moved
    assert np.abs(act(other, built.obs) - action).max() > 1e-3


def _shift(obs):
    return jax.tree.map(lambda x: np.asarray(x) + np.float32(1.0), obs)


@_cases(RUN, [n for n, case in CASES.items() if case.batch_axis == 1])
def test_broken_transitions_teach_nothing(name):
    built = _build(name)
    batch, key = built.case.batch(1), jax.random.key(2)
    valid = batch.extras['valid']
    assert 0 < valid.sum() < valid.size

    def break_with(value):
        def broken(x):
            keep = valid.reshape(valid.shape + (1,) * (x.ndim - 2)) > 0
            return np.where(keep, x, jnp.asarray(value).astype(x.dtype))

        fields = ('obs', 'action', 'reward', 'next_obs')
        return batch.replace(**{f: jax.tree.map(broken, getattr(batch, f)) for f in fields})

    states = [built.update(built.init(KEY), break_with(value), key)[0] for value in (0.5, np.nan)]
    for a, b in zip(*map(_bits, states), strict=True):
        np.testing.assert_array_equal(a, b)


@_cases(CASES)
def test_no_key_is_used_twice_and_all_shapes_are_known(built):
    """From tracing alone, which raises a KeyReuseError; seeds stack too."""
    init, update, act = built.traced_init, built.traced_update, built.traced_act
    state, metrics = update.out_info
    expected = _types(built.abstract)
    assert _types(init.out_info) == _types(state) == expected
    assert not any(weak for _, _, weak in jax.tree.leaves(expected, is_leaf=_is_type))
    num_rows = built.case.batch(0).action.shape[:2]
    for name, value in metrics.items():
        assert value.shape == (num_rows if name == 'td_error' else ()), name
    assert act.out_info[0].shape == built.case.action_shape
    assert act.out_info[0].dtype == built.case.action_dtype

    states = jax.eval_shape(jax.vmap(built.agent.init), SEEDS)
    together = jax.vmap(built.agent.update, in_axes=(0, None, 0))
    found = jax.eval_shape(together, states, built.case.batch(0), SEEDS)
    each = (expected, _types(metrics))
    assert _types(found) == jax.tree.map(lambda x: ((3, *x[0]), *x[1:]), each, is_leaf=_is_type)


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def _is_type(x):
    return isinstance(x, tuple) and len(x) == 3 and isinstance(x[0], tuple)


def test_the_key_reuse_check_is_awake():
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    jax.jit(twice).trace(KEY)  # an earlier trace is not taken for a checked one
    with pytest.raises(jax.errors.KeyReuseError):
        _traced(twice, KEY)


@pytest.mark.parametrize('module', [bc, diffusion_policy, mip, flow_map, drifting])
def test_either_the_averaged_or_the_last_weights_act(module):
    fields = {'width': 8, 'num_blocks': 1} | ({} if module is bc else {'network': 'mlp'})
    if 'num_sample_steps' in module.Config.__dataclass_fields__:
        fields['num_sample_steps'] = 2
    which = ('ema', 'last')
    configs = [module.Config(**HORIZONS, **fields, act_weights=name) for name in which]
    ema, last = (module.make(config, SPEC) for config in configs)
    state = weights.acting(ema)
    params, average = state.params, weights.random(state.target_params, seed=1)
    state = state.replace(target_params=average)

    @jax.jit
    def plans(state):
        obs, swapped = _obs(0, 5, TO), state.replace(params=average, target_params=params)
        each = [(ema, state), (last, state), (ema, swapped)]
        return [acting.act_of(agent)(state, obs, KEY, True)[0] for agent, state in each]

    by_average, by_last, expected = plans(state)
    np.testing.assert_allclose(by_last, expected, atol=1e-5)
    assert np.abs(by_last - by_average).max() > 1e-3
    assert 'act_weights' in module.ACTING


@pytest.mark.parametrize(
    'name', sorted(set(registry.TABLES['agents']) - {'a2c', 'dqn', 'reinforce'})
)
def test_continuous_agents_refuse_choices(name):
    module = registry.resolve('agents', name, 'config.agent.name')
    with pytest.raises(ValueError, match=r'agent\.(name|head): expected .* for discrete actions'):
        module.make(module.Config(), DISCRETE)
