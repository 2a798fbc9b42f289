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


def _theirs(task):
    """Playground's own episodes, jitted: (reset key, the bodies' masses, actions) -> (obs, reward).

    The first observation is that of the reset. Reset and steps are one program, for any model with
    other masses.
    """
    env = registry.load(task, config_overrides={'impl': 'jax'})
    model = env.mjx_model

    @jax.jit
    def run(key, body_mass, actions):
        def step(state, action):
            then = env.step(state, action)
            after = jax.tree.map(lambda a, b: jnp.asarray(b, a.dtype), state, then)
            return after, (then.obs, then.reward)

        env._mjx_model = model.replace(body_mass=body_mass)
        with physics.tracing():
            first = env.reset(jax.random.key_data(jax.random.split(key, 3)[1]))
            first = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), first)
            obs, reward = jax.lax.scan(step, first, actions)[1]
        return jnp.concatenate([first.obs[None], obs]), reward

    return run, np.asarray(model.body_mass)


@pytest.fixture(scope='module')
def their_cartpole():
    return _theirs('CartpoleBalance')


NUM_STEPS = 1000  # a whole episode


def _actions(size):
    return np.random.default_rng(1).uniform(-1, 1, (NUM_STEPS, size)).astype(np.float32)


def _check_against_playground(theirs, ours: Compiled):
    key, actions = jax.random.key(3), _actions(*ours.env.spec.action.shape)
    run, mass = theirs
    obs, reward = jax.device_get(run(key, mass, actions))
    state = ours.reset(key)
    np.testing.assert_array_equal(state.obs, obs[0])
    for t, action in enumerate(actions):
        state = ours.step(state, action)
        np.testing.assert_array_equal(state.obs, obs[t + 1])
        np.testing.assert_array_equal(state.reward, reward[t])


def test_steps_are_playgrounds_own_bit_by_bit(cartpole, their_cartpole):
    """Through a whole episode, though most of MJX's data is not kept between two steps."""
    _check_against_playground(their_cartpole, cartpole)


@pytest.mark.slow
@pytest.mark.parametrize('task', ['PointMass', 'PendulumSwingup', 'CheetahRun', 'WalkerWalk'])
def test_steps_are_playgrounds_own_for_more_tasks(task):
    found = envs.resolve(f'playground/{task}')
    module, config = found.module, found.config
    env = module.make(config)
    assert config.episode_steps == 1000
    _check_against_playground(_theirs(task), Compiled(env, jax.jit(env.reset), jax.jit(env.step)))


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


class Worlds(NamedTuple):
    """Worlds with masses and time limits of their own, spread over four devices."""

    reset: Any  # seed -> states; whole entries of the pool are such states, too
    step: Any  # (pool, states, action) -> states, with automatic resets


@pytest.fixture(scope='module')
def worlds() -> Worlds:
    one = playground.make(playground.Config(), randomize.from_playground(_heavier))
    env = vectorize.vectorize(time_limit.time_limit(one, LIMIT))
    no_pool: Any = None
    reset = jax.jit(auto_reset.auto_reset(env, no_pool).reset)
    mesh = sharding.make_mesh(4)

    def start(seed):
        state = reset(_keys(seed))
        return jax.device_put(state, sharding.shard_leading(mesh, state))

    def step(pool, state, action):
        return auto_reset.auto_reset(env, pool).step(state, action)

    where = sharding.shard_leading(mesh, jax.eval_shape(reset, _keys(0)))
    return Worlds(start, jax.jit(step, out_shardings=where))


def _keys(seed):
    return jax.random.split(jax.random.key(seed), NUM_ENVS)


def _act(value):
    return np.full((NUM_ENVS, 1), value, np.float32)


def test_an_episode_is_truncated_at_the_limit_and_starts_anew_from_a_fresh_state(worlds):
    pool, first = worlds.reset(1), worlds.reset(0)
    state, count = first, first.sim.count
    for t in range(LIMIT):
        action = _act(0.3 * (-1) ** t)
        true = worlds.step(pool, state.replace(sim=state.sim.replace(count=count)), action)
        assert not true.truncation.any()  # its time is not over
        state = worlds.step(pool, state, action)
        assert not state.termination.any() and (state.truncation == (t == LIMIT - 1)).all()
        np.testing.assert_array_equal(state.next_obs, true.obs)
    assert not (np.asarray(state.obs) == np.asarray(state.next_obs)).all(axis=1).any()
    state, first, pool = jax.device_get([x.replace(key=()) for x in (state, first, pool)])
    for i in range(NUM_ENVS):  # whole entries of the pool, none of them its own first state
        (match,) = [j for j in range(NUM_ENVS) if np.array_equal(state.obs[i], pool.obs[j])]
        for ours, fresh in zip(*map(jax.tree.leaves, (state.sim, pool.sim)), strict=True):
            np.testing.assert_array_equal(ours[i], fresh[match])
        assert not np.array_equal(state.obs[i], first.obs[i])


def _with_velocities(state, qvel):
    """A state of Playground's with other velocities."""
    return state.replace(data=state.data | {'qvel': qvel})


def test_a_world_that_breaks_ends_and_starts_anew(cartpole, worlds):
    one = cartpole.reset(jax.random.key(0))
    nan = np.full_like(one.sim.state.data['qvel'], np.nan)
    broken = cartpole.step(
        one.replace(sim=one.sim.replace(state=_with_velocities(one.sim.state, nan))), _act(0)[0]
    )
    assert broken.termination, 'their done is our termination'
    state, only_first = worlds.reset(0), [True] + [False] * (NUM_ENVS - 1)
    inner: Any = state.sim.inner
    qvel = np.array(inner.state.data['qvel'])
    qvel[0] = np.nan
    qvel = jax.device_put(qvel, inner.state.data['qvel'].sharding)
    inner = inner.replace(state=_with_velocities(inner.state, qvel))
    state = state.replace(sim=state.sim.replace(inner=inner))
    state = worlds.step(worlds.reset(1), state, _act(0.0))
    assert state.metrics['nan_world'].tolist() == only_first == state.termination.tolist()
    assert state.reward[0] == 0.0
    kept = jax.device_get((state.obs, state.sim, state.next_obs))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept))


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


def _masses(state):
    """Each world's masses of all bodies."""
    (mass,) = parts.find(state.sim, playground.Sim).overrides.values()
    return np.asarray(mass)


def test_the_model_is_drawn_anew_at_every_reset_and_holds_until_the_next(worlds):
    pool, state = worlds.reset(1), worlds.reset(0)
    first = _masses(state)[:, 2]
    assert np.unique(first).size == NUM_ENVS
    for _ in range(LIMIT - 1):
        state = worlds.step(pool, state, _act(1.0))
        np.testing.assert_array_equal(_masses(state)[:, 2], first)
    state = worlds.step(pool, state, _act(1.0))
    assert not np.intersect1d(_masses(state)[:, 2], first).size
    assert np.isin(_masses(state)[:, 2], _masses(pool)[:, 2]).all()


def test_steps_on_every_device_are_those_of_the_model_that_was_drawn(their_cartpole, worlds):
    run, mass = their_cartpole
    start, keys = worlds.reset(5), _keys(5)
    found = worlds.step(worlds.reset(1), start, _act(1.0)).obs
    assert len(found.sharding.device_set) == 4
    found, masses = np.asarray(found), _masses(start)

    def wanted(i, mass):
        return np.asarray(run(keys[i], mass, np.ones((NUM_STEPS, 1), np.float32))[0][1])

    for i in range(0, NUM_ENVS, NUM_ENVS // 4):  # one world of each device
        np.testing.assert_allclose(found[i], wanted(i, masses[i]), atol=1e-6)
    assert np.abs(found[0] - wanted(0, mass)).max() > 1e-4, 'the mass matters'


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
