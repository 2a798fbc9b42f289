# pyright: reportAttributeAccessIssue=false

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxpolicy import optimizers
from jaxpolicy.agents import ppo, ppo_recurrent, transforms
from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.io import checkpoint
from jaxpolicy.loops import on_policy, rollout
from jaxpolicy.types import Agent, Env, EnvState, Policy, Spec, Transition, memoryless

N, T, LIMIT = 8, 6, 4
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))


def _env() -> Env:
    """obs [where the episode started, steps]; the reward is the action."""

    def reset(key):
        key, start_key = jax.random.split(key)
        obs = jnp.stack([jax.random.uniform(start_key), jnp.zeros(())])
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {'steps': zero}, key, ())

    def step(state, action):
        obs = state.obs + jnp.asarray([0.0, 1.0])
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=action[0],
            truncation=jnp.zeros((), bool),
            metrics={'steps': obs[1]},
        )

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, SPEC), LIMIT))


class Kept(struct.PyTreeNode):
    """The last rollout, and the number of updates so far."""

    step: jax.Array
    rollout: dict


def _keeper() -> Agent:
    """Keeps the last rollout; acts with the number of updates so far."""
    shape = {'obs': (T, N, 2), 'next_obs': (T, N, 2), 'action': (T, N, 1)}

    def init(key):
        kept = {name: jnp.zeros(s) for name, s in shape.items()}
        return Kept(jnp.zeros((), jnp.int32), kept | {'truncation': jnp.zeros((T, N), bool)})

    def update(state, batch: Transition, key):
        kept = {name: getattr(batch, name) for name in (*shape, 'truncation')}
        return Kept(state.step + 1, kept), {'age': state.step + 1.0}

    def policy(state, deterministic=False):
        def act(obs, key):
            return jnp.broadcast_to(jnp.float32(state.step), (*obs.shape[:1], 1)), {}

        return memoryless(act)

    return Agent(init, update, policy)


def _make(agent, iterations_per_round=1):
    return on_policy.make(_env(), agent, N, T, iterations_per_round, LIMIT)


@functools.cache
def _kept():
    """Jitted init and step of a loop whose agent keeps its rollouts."""
    loop = _make(_keeper())
    return jax.jit(loop.init), jax.jit(loop.step)


def test_every_rollout_continues_and_acts_with_the_newest_weights():
    init, step = _kept()
    state, starts = init(jax.random.key(0)), []
    for i in range(4):
        before = np.asarray(state.env.obs)
        state, metrics = step(state, ())
        kept = state.train.rollout
        np.testing.assert_array_equal(kept['obs'][0], before)
        np.testing.assert_array_equal(kept['action'], i)
        np.testing.assert_allclose(metrics['reward'], i)
        assert metrics['age'] == i + 1
        assert metrics['updates'] == 1 and metrics['env_steps'] == N * T
        np.testing.assert_array_equal(kept['next_obs'][..., 1], kept['obs'][..., 1] + 1)
        starts.append(np.unique(kept['obs'][1:][np.asarray(kept['truncation'])[:-1], 0]))
    assert step._cache_size() == 1
    # every rollout draws fresh starts: none comes back in a later one
    for i, some in enumerate(starts):
        assert len(some) > 1
        for later in starts[i + 1 :]:
            assert not set(some) & set(later)


def test_first_episodes_end_at_different_times():
    init, step = _kept()
    state, _ = step(init(jax.random.key(0)), ())
    truncation = np.asarray(state.train.rollout['truncation'])
    assert len(set(truncation.argmax(axis=0))) > 1
    # from then on every episode has its full length
    for world in truncation.T:
        ends = np.flatnonzero(world)
        assert ends[0] < LIMIT and (np.diff(ends) == LIMIT).all()


def test_metrics_are_averages_over_rollouts_and_sums_over_episodes():
    loop = _make(_keeper(), iterations_per_round=5)  # which begins as any other
    state, metrics = jax.jit(loop.step)(_kept()[0](jax.random.key(0)), ())
    assert state.train.step == metrics['updates'] == 5
    assert metrics['env_steps'] == 5 * N * T
    assert metrics['updates'].dtype == metrics['env_steps'].dtype == jnp.int32
    np.testing.assert_allclose(metrics['reward'], 2.0)  # the actions 0, 1, 2, 3, 4
    np.testing.assert_allclose(metrics['age'], 3.0)
    np.testing.assert_allclose(metrics['nan_worlds'], 0.0)
    assert 1.0 < metrics['end/steps'] <= LIMIT


def test_figures_per_episode_by_hand():
    flags = {
        'termination': jnp.asarray([[True, False]]),
        'truncation': jnp.asarray([[False, True]]),
    }
    batch = Transition(
        obs=jnp.zeros((1, 2, 1)),
        action=jnp.zeros((1, 2, 1)),
        reward=jnp.asarray([[1.0, 4.0]]),
        next_obs=jnp.zeros((1, 2, 1)),
        extras={'valid': jnp.asarray([[0.0, 1.0]])},
        **flags,
    )
    sums = rollout.summarize(batch, {'success': jnp.asarray([[1.0, 0.5]])})
    assert sums == {'reward': 2.5, 'episodes': 2.0, 'nan_worlds': 1.0, 'end/success': 1.5}
    # two rollouts, the other with no episode's end: the mean of sums is divided by that of counts
    mean = {'reward': 2.5, 'episodes': jnp.asarray(1.0), 'end/success': jnp.asarray(0.75)}
    assert rollout.per_episode(mean)['end/success'] == 0.75
    none = {'episodes': jnp.asarray(0.0), 'end/success': jnp.asarray(0.0)}
    assert rollout.per_episode(none)['end/success'] == 0.0


def _bits(state):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state)
    ]


def _ppo_loop(module=ppo, env=None):
    config = module.Config(hidden=(8,), num_epochs=2, num_minibatches=2)
    agent = transforms.standardize_obs(module.make(config, SPEC), SPEC.obs)
    return on_policy.make(env or _env(), agent, N, T, iterations_per_round=2, episode_steps=LIMIT)


@functools.cache
def _fragile(module):
    """The loop with careless and fragile worlds, and its compiled functions.

    init(key), and step(state, junk), to which the state is donated.
    """
    loop = _ppo_loop(module, _fragile_env(0.0))
    step = jax.jit(
        lambda state, junk: _ppo_loop(module, _fragile_env(junk)).step(state, ()), donate_argnums=0
    )
    return loop, jax.jit(loop.init), step


@pytest.mark.parametrize('module', [pytest.param(ppo, marks=pytest.mark.slow), ppo_recurrent])
def test_a_restored_run_continues_bitwise(tmp_path, module):
    loop, init, step = _fragile(module)
    whole, _ = step(init(jax.random.key(0)), 0.0)
    start = _bits(whole)
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, whole, {})
        template = jax.eval_shape(loop.init, jax.random.key(0))
        resumed, _ = checkpoint.restore(manager, 1, template)
    rate = optimizers.rate(resumed.train.opt_state)
    assert rate == optimizers.rate(whole.train.opt_state) != jnp.float32(ppo.Config().learning_rate)
    assert len(jax.tree.leaves(resumed.memory)) == (2 if module is ppo_recurrent else 0)
    whole, metrics = step(whole, 0.0)
    resumed, resumed_metrics = step(resumed, 0.0)
    for a, b in zip(_bits((whole, metrics)), _bits((resumed, resumed_metrics)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(start, _bits(whole), strict=True))
    assert whole.train.step == 4 * 2 * 2 and step._cache_size() == 1


def test_the_memory_lives_on_between_rollouts_and_ends_with_the_episode():
    """An agent that counts the steps of its episode, whose number the environment knows."""

    def update(state, batch, key):
        return Kept(state.step, {'seen': batch.extras['counted'], 'obs': batch.obs[..., 1]}), {}

    def policy(state, deterministic=False):
        return Policy(
            init=lambda obs: jnp.zeros((len(obs), 1)),
            act=lambda carry, obs, key: (carry + 1.0, jnp.zeros((N, 1)), {'counted': carry[:, 0]}),
        )

    def init(key):
        kept = {'seen': jnp.zeros((T, N)), 'obs': jnp.zeros((T, N))}
        return Kept(jnp.zeros((), jnp.int32), kept)

    agent = Agent(init, update, policy)
    loop = _make(agent)
    state, step = jax.jit(loop.init)(jax.random.key(0)), jax.jit(loop.step)
    for _ in range(3):
        state, _ = step(state, ())
        np.testing.assert_array_equal(state.train.rollout['seen'], state.train.rollout['obs'])
        np.testing.assert_array_equal(state.memory[:, 0], state.env.obs[:, 1])
    assert state.train.rollout['obs'][0].max() > 0  # some rollouts begin amid an episode


def _careless_env() -> Env:
    """Its step has a weakly typed reward and metric, its reset has not."""
    env = _env()

    def step(state, action):
        after = env.step(state, action)
        reward = jnp.where(action[:, 0] > 0.0, 1.0, 0.0)
        return after.replace(reward=reward, metrics={'steps': jnp.where(reward > 0, 2.0, 1.0)})

    return env._replace(step=step)


@pytest.mark.parametrize('module', [ppo, ppo_recurrent])
def test_the_state_keeps_its_types_so_that_step_compiles_once(module):
    loop = _ppo_loop(module, _careless_env())
    before = jax.eval_shape(loop.init, jax.random.key(0))
    after, _ = jax.eval_shape(loop.step, before, ())
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
        assert not a.weak_type


def _fragile_env(junk) -> Env:
    """Now and then something in a world becomes `junk`, each time something else."""
    env = _careless_env()

    def step(state, action):
        after = env.step(state, action)
        start, count = state.obs[:, 0], after.obs[:, 1]
        kind = jnp.where((count == 2.0) & (start < 0.4), jnp.floor(start * 10.0), -1.0)

        def spoil(x, index):
            return jnp.where((kind == index).reshape((-1,) + (1,) * (x.ndim - 1)), junk, x)

        return after.replace(
            obs=spoil(after.obs, 0),
            next_obs=spoil(spoil(after.next_obs, 0), 1),
            reward=spoil(after.reward, 2),
            metrics={'steps': spoil(after.metrics['steps'], 2)},
            sim=after.sim.replace(inner=spoil(after.sim.inner, 3)),
        )

    def reset(keys):
        state = env.reset(keys)
        return state.replace(sim=state.sim.replace(inner=jnp.zeros(len(keys))))

    return Env(reset, step, env.spec)


@pytest.mark.parametrize('module', [pytest.param(ppo, marks=pytest.mark.slow), ppo_recurrent])
def test_worlds_that_break_are_dropped_and_counted_and_move_nothing(module):
    """How they broke makes no difference to anything: the states are equal to the bit."""
    _, init, step = _fragile(module)
    runs = []
    for junk in (np.nan, np.inf, -np.inf):
        state, broken = init(jax.random.key(0)), 0.0
        for _ in range(3):
            state, metrics = step(state, junk)
            broken += metrics['nan_worlds']
            assert all(np.isfinite(value) for value in metrics.values())
        assert broken > 2
        assert metrics['first_ratio'] == pytest.approx(1.0, abs=1e-5)
        runs.append(_bits(state))
    for run in runs:
        for a, b in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(a).all()


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        loop = _ppo_loop()
        start = jax.jit(loop.init).trace(jax.random.key(0)).out_info  # raises a KeyReuseError
        jax.jit(loop.step).trace(start, ())
