"""Each choice of the study does what its name says, and the defaults are the library's own PPO."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.ppo_choices import starts, variants
from jaxpolicy.agents import ppo, transforms
from jaxpolicy.ops import normalize
from jaxpolicy.types import Env, EnvState, Spec, Transition
from tests import acting

T, N, A = 4, 6, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
SIZES = {'hidden': (16,), 'num_epochs': 2, 'num_minibatches': 2}
KEY = jax.random.key(0)


@functools.cache
def _agent(**choice):
    return variants.make(variants.Config(**SIZES, **choice), SPEC)


@functools.cache
def _update(**choice):
    return jax.jit(_agent(**choice).update)


@functools.cache
def _start():
    """A state whose statistics have seen a rollout, and another rollout far from it."""
    agent = transforms.standardize_obs(ppo.make(ppo.Config(**SIZES), SPEC), SPEC.obs)
    state = jax.jit(agent.init)(KEY)
    seen = normalize.update(state.stats['obs'], _obs(0), jnp.ones((T, N)))
    state = state.replace(stats={'obs': seen})
    obs, next_obs = 3.0 + _obs(1), 3.0 + _obs(2)
    act = jax.jit(jax.vmap(acting.act_of(agent), in_axes=(None, 0, 0)))
    action, extras = act(state, obs, jax.random.split(KEY, T))
    rng = np.random.default_rng(3)
    batch = Transition(
        obs=obs,
        action=action,
        reward=rng.normal(size=(T, N)).astype(np.float32),
        termination=rng.random((T, N)) < 0.2,
        truncation=np.arange(N) % 3 == np.zeros((T, 1)),
        next_obs=next_obs,
        extras={**extras, 'valid': np.ones((T, N), np.float32)},
    )
    return state, batch.replace(truncation=batch.truncation & ~batch.termination), agent


def _obs(seed):
    return np.random.default_rng(seed).normal(size=(T, N, 3)).astype(np.float32)


def _close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


def test_without_a_choice_it_is_the_librarys_ppo():
    state, batch, agent = _start()
    _close(_update()(state, batch, KEY), jax.jit(agent.update)(state, batch, KEY), 0.0)


def test_a_time_limit_that_terminates_has_no_value_beyond_it():
    state, batch, _ = _start()
    update = _update(time_limits='terminate')
    new, _ = update(state, batch, KEY)
    ended = batch.replace(termination=batch.termination | batch.truncation)
    expected, _ = _update()(state, ended.replace(truncation=ended.truncation & False), KEY)
    _close(new.params, expected.params)
    elsewhere = np.where(batch.truncation[..., None], 100.0, batch.next_obs).astype(np.float32)
    same, _ = update(state, batch.replace(next_obs=elsewhere), KEY)
    _close(new.params, same.params)
    other, _ = _update()(state, batch.replace(next_obs=elsewhere), KEY)
    ours, _ = _update()(state, batch, KEY)
    gap = jax.tree.map(lambda x, y: np.abs(x - y).max(), ours.params, other.params)
    assert max(jax.tree.leaves(gap)) > 1e-4


def test_statistics_that_come_first_are_those_that_learning_sees():
    state, batch, _ = _start()
    new, metrics = _update(statistics='before')(state, batch, KEY)
    both = np.concatenate([_obs(0), batch.obs])
    _close(new.stats['obs'].mean, both.reshape(-1, 3).mean(0))
    assert new.stats['obs'].count == 2 * T * N  # each step once
    learnt, expected = _update()(state.replace(stats=new.stats), batch, KEY)
    _close((new.params, metrics), (learnt.params, expected))
    _, ours = _update()(state, batch, KEY)
    assert abs(metrics['first_ratio'] - 1.0) > 1e-3 > abs(ours['first_ratio'] - 1.0)


def test_the_first_rollout_alone_may_come_first():
    state, batch, _ = _start()
    update = _update(statistics='first_before')
    _close(update(state, batch, KEY), _update()(state, batch, KEY))
    nothing = state.replace(stats={'obs': normalize.welford(SPEC.obs)})
    _close(update(nothing, batch, KEY), _update(statistics='before')(nothing, batch, KEY))


def test_advantages_are_normalised_in_each_minibatch(monkeypatch):
    """Those that the losses are given have mean 0 and standard deviation 1 there."""
    state, batch, _ = _start()
    original, found = ppo.ppo_loss, []

    def spy(config, dist, value, minibatch):
        jax.debug.callback(
            lambda *x: found.append([np.asarray(y) for y in x]),
            minibatch.advantage,
            minibatch.target,
        )
        return original(config, dist, value, minibatch)

    monkeypatch.setattr(ppo, 'ppo_loss', spy)
    moments, targets = {}, {}
    for how in ('rollout', 'minibatch'):
        found.clear()
        config = variants.Config(**SIZES, advantages=how)
        jax.block_until_ready(jax.jit(variants.make(config, SPEC).update)(state, batch, KEY))
        jax.effects_barrier()
        assert len(found) == 4  # two epochs of two minibatches
        moments[how] = np.array([[x.mean(), x.std()] for x, _ in found])
        targets[how] = np.array([np.sort(x) for _, x in found])
    np.testing.assert_allclose(moments['minibatch'], [[0.0, 1.0]] * 4, atol=1e-3)
    assert np.abs(moments['rollout'][:, 0]).max() > 0.01
    np.testing.assert_allclose(targets['minibatch'][0], targets['rollout'][0], atol=1e-5)


def _counter():
    """obs [start]; the start is drawn, and each step draws too."""

    def reset(key):
        key, start = jax.random.split(key)
        obs, zero, no = jax.random.uniform(start, (1,)), jnp.zeros(()), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, {}, key, obs)

    def step(state, action):
        return state.replace(reward=state.reward + action[0])

    return Env(reset, step, SPEC._replace(obs=jax.ShapeDtypeStruct((1,), jnp.float32)))


def test_cached_starts_are_a_few_and_all_of_them():
    env = starts.cached(_counter(), num_starts=3, seed=5)
    first, again = (jax.vmap(env.reset)(jax.random.split(jax.random.key(i), 64)) for i in (0, 1))
    known = np.unique(first.obs)
    assert len(known) == 3
    np.testing.assert_array_equal(np.unique(again.obs), known)
    np.testing.assert_array_equal(first.sim, first.obs)
    assert len(np.unique(jax.random.key_data(first.key), axis=0)) == 64  # the rest is fresh
    other = jax.vmap(starts.cached(_counter(), 3, seed=6).reset)(jax.random.split(KEY, 64))
    assert not set(np.unique(other.obs)) & set(known)
