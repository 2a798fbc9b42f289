# pyright: reportAttributeAccessIssue=false
# (A jitted function's cache is not in its type.)
"""MuJoCo Playground's tasks under our contract; those of the DM Control suite need no download."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxpolicy import envs, sharding, types
from jaxpolicy.envs.adapters import playground
from jaxpolicy.envs.physics import stepping as physics
from jaxpolicy.envs.tasks import parts
from jaxpolicy.envs.wrap import auto_reset, randomize, time_limit, vectorize

pytest.importorskip('mujoco_playground')

from mujoco_playground import registry


def _edited(monkeypatch, edit):
    """From here on `edit(state)` changes what CartpoleBalance's reset returns, and is its step."""

    class Edited(type(registry.load('CartpoleBalance', config_overrides={'impl': 'jax'}))):
        def step(self, state, action):
            return edit(state)  # without the physics, which takes long to compile

        def reset(self, rng):
            return edit(super().reset(rng))

    load = registry.load

    def loaded(task, config_overrides):
        env = load(task, config_overrides=config_overrides)
        env.__class__ = Edited
        return env

    monkeypatch.setattr(registry, 'load', loaded)


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), x.aval.weak_type), tree)


class Compiled(NamedTuple):
    env: types.Env
    reset: Any
    step: Any


@pytest.fixture(scope='module')
def cartpole() -> Compiled:
    env = playground.make(playground.Config())
    return Compiled(env, jax.jit(env.reset), jax.jit(env.step))


def _check_against_playground(task, ours: Compiled, num_steps):
    theirs = registry.load(task, config_overrides={'impl': 'jax'})
    key = jax.random.key(3)
    shape = (num_steps, *ours.env.spec.action.shape)
    actions = np.asarray(jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0))
    with physics.tracing():
        their_step, state = jax.jit(theirs.step), ours.reset(key)
        their = jax.jit(theirs.reset)(jax.random.key_data(jax.random.split(key, 3)[1]))
        np.testing.assert_array_equal(state.obs, their.obs)
        for action in actions:
            state, their = ours.step(state, action), their_step(their, action)
            np.testing.assert_array_equal(state.obs, their.obs)
            np.testing.assert_array_equal(state.reward, their.reward)


def test_steps_are_playgrounds_own_bit_by_bit(cartpole):
    """Through a whole episode, though most of MJX's data is not kept between two steps."""
    _check_against_playground('CartpoleBalance', cartpole, 1000)


@pytest.mark.slow
@pytest.mark.parametrize('task', ['PointMass', 'PendulumSwingup', 'CheetahRun', 'WalkerWalk'])
def test_steps_are_playgrounds_own_for_more_tasks(task):
    found = envs.resolve(f'playground/{task}')
    module, config = found.module, found.config
    env = module.make(config)
    assert config.episode_steps == 1000
    _check_against_playground(task, Compiled(env, jax.jit(env.reset), jax.jit(env.step)), 1000)


def test_types_stay_and_nothing_compiles_twice(cartpole):
    env, reset, step = cartpole
    first = state = reset(jax.random.key(0))
    state = step(state, jnp.zeros(1))
    count = step._cache_size()
    for _ in range(3):
        assert _types(state) == _types(first)
        state = step(state, jnp.zeros(1))
    assert step._cache_size() == count
    assert not any(x.aval.weak_type for x in jax.tree.leaves(first))
    assert (env.spec.obs.shape, env.spec.action.shape) == (first.obs.shape, (1,))
    assert first.metrics and all(m.dtype == jnp.float32 for m in first.metrics.values())
    assert all(x.size for x in jax.tree.leaves(state)), 'checkpoints refuse arrays of size 0'
    high = step(state, 7.0 * jnp.ones(1))
    np.testing.assert_array_equal(high.obs, step(state, jnp.ones(1)).obs)


LIMIT, NUM_ENVS = 4, 8


def _heavier(model, rng):
    """Playground's kind of domain randomisation: each world's pole has a mass of its own."""
    scale = jax.vmap(lambda k: jax.random.uniform(k, (), minval=0.5, maxval=5.0))(rng)
    in_axes = jax.tree.map(lambda x: None, model).tree_replace({'body_mass': 0})
    return model.tree_replace({'body_mass': model.body_mass * scale[:, None]}), in_axes


def _randomized() -> types.Env:
    return playground.make(playground.Config(), randomize.from_playground(_heavier))


def _env() -> types.Env:
    return vectorize.vectorize(time_limit.time_limit(_randomized(), LIMIT))


@pytest.fixture(scope='module')
def start() -> Any:
    """The compiled reset with automatic resets, which looks at no pool."""
    no_pool: Any = None
    return jax.jit(auto_reset.auto_reset(_env(), no_pool).reset)


@pytest.fixture(scope='module')
def batch(start) -> Compiled:
    """Without automatic resets; its own reset is the same, but for one metric."""

    def reset(keys):
        state = start(keys)
        return state.replace(metrics={k: x for k, x in state.metrics.items() if k != 'nan_world'})

    env = _env()
    return Compiled(env, reset, jax.jit(env.step))


@pytest.fixture(scope='module')
def auto(batch, start) -> Compiled:
    pool = batch.reset(jax.random.split(jax.random.key(1), NUM_ENVS))
    env = auto_reset.auto_reset(batch.env, pool)
    return Compiled(env, start, jax.jit(env.step))


def test_an_episode_is_truncated_at_the_limit_and_starts_anew_from_a_fresh_state(batch, auto):
    pool = batch.reset(jax.random.split(jax.random.key(1), NUM_ENVS))
    first = state = auto.reset(jax.random.split(jax.random.key(0), NUM_ENVS))
    for t in range(LIMIT):
        action = 0.3 * (-1) ** t * jnp.ones((NUM_ENVS, 1))
        true = batch.step(state.replace(metrics=pool.metrics), action)
        state = auto.step(state, action)
        assert not state.termination.any() and (state.truncation == (t == LIMIT - 1)).all()
        np.testing.assert_array_equal(state.next_obs, true.next_obs)
    assert not (np.asarray(state.obs) == np.asarray(state.next_obs)).all(axis=1).any()
    for i in range(NUM_ENVS):  # whole entries of the pool, none of them its own first state
        (match,) = [j for j in range(NUM_ENVS) if np.array_equal(state.obs[i], pool.obs[j])]
        for ours, fresh in zip(*map(jax.tree.leaves, (state.sim, pool.sim)), strict=True):
            np.testing.assert_array_equal(ours[i], fresh[match])
        assert not np.array_equal(state.obs[i], first.obs[i])


def test_a_world_that_breaks_ends_and_starts_anew(batch, auto):
    state = auto.reset(jax.random.split(jax.random.key(0), NUM_ENVS))
    inner: Any = state.sim.inner
    data = inner.state.data
    data = data | {'qvel': data['qvel'].at[0].set(jnp.nan)}
    inner = inner.replace(state=inner.state.replace(data=data))
    state = state.replace(sim=state.sim.replace(inner=inner))
    metrics = {name: x for name, x in state.metrics.items() if name != 'nan_world'}
    action, only_first = jnp.zeros((NUM_ENVS, 1)), [True] + [False] * (NUM_ENVS - 1)
    broken = batch.step(state.replace(metrics=metrics), action)
    assert broken.termination.tolist() == only_first, 'their done is our termination'
    state = auto.step(state, action)
    assert state.metrics['nan_world'].tolist() == only_first == state.termination.tolist()
    assert state.reward[0] == 0.0
    kept = (state.obs, state.sim, state.next_obs)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(kept))


def test_dict_observations_and_weak_types_and_history_are_handled(monkeypatch):
    """What the robot tasks do: dicts, `info` that is written to, weak types, a real `done`."""

    def edit(state):
        count = state.info.get('count', -1) + 1
        state.info['count'] = count
        state.metrics['count'] = count
        obs = state.obs['state'] if isinstance(state.obs, dict) else state.obs
        obs = {'state': obs, 'privileged_state': jnp.append(obs, count)}
        data = state.data.replace(time=0.0)  # as CheetahRun's reset does
        return state.replace(data=data, obs=obs, reward=1.0, done=jnp.where(count == 2, 1.0, 0.0))

    _edited(monkeypatch, edit)
    env = playground.make(playground.Config())
    assert {k: v.shape for k, v in env.spec.obs.items()} == {
        'privileged_state': (6,),
        'state': (5,),
    }
    step = jax.jit(env.step)
    first = state = jax.jit(env.reset)(jax.random.key(0))
    assert state.obs['privileged_state'][-1] == 0.0
    ends = []
    for _ in range(3):
        state = step(state, jnp.zeros(1))
        ends.append(bool(state.termination))
        assert _types(state) == _types(first)
    assert ends == [False, True, False] and step._cache_size() == 1
    assert state.metrics['count'] == 3.0 and first.metrics['count'] == 0.0
    assert step(first, jnp.zeros(1)).sim.state.info['count'] == 1
    jax.eval_shape(lambda: env.step(first, jnp.zeros(1)))  # does not write into what it is given
    assert first.sim.state.info['count'] == 0


class _Counter(struct.PyTreeNode):
    """A state as Playground's, and an environment that ends at a count."""

    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    info: dict[str, jax.Array]


def test_an_action_is_repeated_until_the_task_ends():
    class Env:
        def step(self, state, action):
            state.info['count'] += 1
            count = state.info['count']
            done = jnp.where(count == 6, 1.0, 0.0)
            return state.replace(obs=count + action, reward=count * 1.0, done=done)

    def repeat(count, times):
        info, zero = {'count': jnp.array(count)}, jnp.zeros(())
        state, reward = playground._repeat(Env(), _Counter(zero, zero, zero, info), zero, times)
        return int(state.info['count']), float(state.obs), float(reward), bool(state.done > 0)

    assert repeat(0, 1) == (1, 1.0, 1.0, False)
    assert repeat(0, 4) == (4, 4.0, 1.0 + 2.0 + 3.0 + 4.0, False)
    assert repeat(3, 4) == (6, 6.0, 4.0 + 5.0 + 6.0, True)
    assert playground.defaults('PandaRobotiqPushCube').action_repeat == 4
    assert playground.defaults('PandaRobotiqPushCube').episode_steps == 750


def test_the_model_is_drawn_anew_at_every_reset_and_holds_until_the_next(batch, auto):
    def masses(state):
        (mass,) = parts.find(state.sim, playground.Sim).overrides.values()
        return np.asarray(mass)[:, 2]

    pool = batch.reset(jax.random.split(jax.random.key(1), NUM_ENVS))
    state = auto.reset(jax.random.split(jax.random.key(0), NUM_ENVS))
    first = masses(state)
    assert np.unique(first).size == NUM_ENVS
    for _ in range(LIMIT - 1):
        state = auto.step(state, jnp.ones((NUM_ENVS, 1)))
        np.testing.assert_array_equal(masses(state), first)
    state = auto.step(state, jnp.ones((NUM_ENVS, 1)))
    assert not np.intersect1d(masses(state), first).size
    assert np.isin(masses(state), masses(pool)).all()


def test_steps_are_those_of_the_model_that_was_drawn(cartpole, batch):
    keys, action = jax.random.split(jax.random.key(5), NUM_ENVS), jnp.ones((NUM_ENVS, 1))
    start = batch.reset(keys)
    found = batch.step(start, action)
    one = jax.tree.map(lambda x: x[0], start)
    inner: Any = one.sim.inner
    (mass,) = inner.overrides.values()
    theirs = registry.load('CartpoleBalance', config_overrides={'impl': 'jax'})
    theirs._mjx_model = theirs.mjx_model.replace(body_mass=mass)
    with physics.tracing():
        key = jax.random.key_data(jax.random.split(keys[0], 3)[1])
        wanted = jax.jit(lambda key: theirs.step(theirs.reset(key), jnp.ones(1)))(key)
    np.testing.assert_allclose(found.obs[0], wanted.obs, atol=1e-6)
    plain = cartpole.step(one.replace(sim=inner.replace(overrides={})), jnp.ones(1))
    assert np.abs(plain.obs - found.obs[0]).max() > 1e-4, 'the mass matters'


def test_environments_spread_over_devices(batch):
    env = batch.env
    mesh = sharding.make_mesh(4)
    keys, action = jax.random.split(jax.random.key(0), NUM_ENVS), jnp.ones((NUM_ENVS, 1))
    start = batch.reset(keys)
    alone = batch.step(start, action)
    where = sharding.shard_leading(mesh, alone)
    spread = jax.device_put(start, sharding.shard_leading(mesh, start))
    state = jax.jit(env.step, out_shardings=where)(spread, action)
    assert len(state.obs.sharding.device_set) == 4
    np.testing.assert_allclose(state.obs, alone.obs, atol=1e-6)


def test_pictures(cartpole):
    states = [cartpole.reset(jax.random.key(seed)) for seed in (0, 1)]
    state = jax.tree.map(lambda *x: jnp.stack(x), *states)
    pictures = playground.render(playground.Config(), state, 96, 128)
    assert pictures.shape == (2, 96, 128, 3) and pictures.dtype == np.uint8
    assert pictures.std() > 1.0 and (pictures[0] != pictures[1]).any()


def test_bad_configs_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"CheetahRun.*found 'CheetaRun'"):
        envs.resolve('playground/CheetaRun')
    with pytest.raises(ValueError, match="expected one of .*found 'nothing'"):
        envs.resolve('nothing')
    with pytest.raises(ValueError, match='env.impl'):
        playground.make(playground.Config(impl='cpp'))
    with pytest.raises(ValueError, match='env.overrides'):
        playground.make(playground.Config(overrides='{"nonsense": 1}'))
    with pytest.raises(ValueError, match='no domain randomisation'):
        playground.make(playground.Config(randomize=True))


def test_overrides_reach_playground(monkeypatch):
    given, load = {}, registry.load

    def loaded(task, config_overrides):
        given.update(config_overrides)
        return load(task, config_overrides=config_overrides)

    monkeypatch.setattr(registry, 'load', loaded)
    playground.make(playground.Config(overrides='{"ctrl_dt": 0.03}'))
    assert given == {'ctrl_dt': 0.03, 'impl': 'jax'}
