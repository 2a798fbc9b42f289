# pyright: reportAttributeAccessIssue=false
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import ppo, ppo_recurrent, transforms
from jaxpolicy.envs.wrap import auto_reset, time_limit, vectorize
from jaxpolicy.loops import on_policy, rollout
from jaxpolicy.ops import normalize
from jaxpolicy.types import Env, EnvState, Spec, Transition
from tests import acting

T, N, A, H, LIMIT = 6, 8, 2, 5, 4
SPEC = Spec(
    obs={
        'state': jax.ShapeDtypeStruct((3,), jnp.float32),
        'privileged_state': jax.ShapeDtypeStruct((2,), jnp.float32),
    },
    action=jax.ShapeDtypeStruct((A,), jnp.float32),
)
CONFIG = ppo_recurrent.Config(
    hidden=(8,),
    memory_size=H,
    num_epochs=2,
    num_minibatches=2,
    actor_obs=('state',),
    critic_obs=('state', 'privileged_state'),
)


def _env() -> Env:
    """A random walk far from 0; some episodes end by themselves, the others at the limit."""

    def observe(x, key):
        noise = jax.random.normal(key, (3,))
        return {'state': 5.0 + 3.0 * x + noise, 'privileged_state': jnp.stack([x, x**2])}

    def reset(key):
        key, obs_key, start_key = jax.random.split(key, 3)
        x = jax.random.normal(start_key)
        obs, no = observe(x, obs_key), jnp.zeros((), bool)
        return EnvState(obs, obs, jnp.zeros(()), no, no, {}, key, x)

    def step(state, action):
        key, obs_key = jax.random.split(state.key)
        x = state.sim + 0.5 * action[0]
        obs = observe(x, obs_key)
        no = jnp.zeros((), bool)
        return EnvState(obs, obs, x, x > 1.0, no, {}, key, x)

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, SPEC), LIMIT))


@functools.cache
def _agent(cell='gru', **fields):
    return ppo_recurrent.make(dataclasses.replace(CONFIG, cell=cell, **fields), SPEC)


@functools.cache
def _experience(cell):
    """A train state, and a rollout [T, N] of it that starts amid episodes, without a normaliser."""
    agent = _agent(cell)
    env = auto_reset.auto_reset(_env(), _env().reset(jax.random.split(jax.random.key(1), N)))

    @jax.jit
    def run(key):
        state = agent.init(key)
        env_state, policy = env.reset(jax.random.split(key, N)), agent.policy(state)
        memory = policy.init(env_state.obs)
        for seed in range(2):
            env_state, memory, batch, _ = rollout.rollout(
                env, policy, env_state, memory, jax.random.key(seed), T
            )
        return state, batch

    state, batch = jax.device_get(run(jax.random.key(0)))
    done = np.asarray(batch.termination | batch.truncation)
    assert done[:-1].any() and batch.termination.any() and batch.truncation.any()
    assert all((np.abs(m).max(-1) > 0).any() for m in jax.tree.leaves(batch.carry))
    return state, batch, done


# That an LSTM replays as it acted is shown below, more directly.
@pytest.mark.parametrize('cell', ['gru', pytest.param('lstm', marks=pytest.mark.slow)])
def test_the_first_ratio_is_one(cell):
    """Behind a normaliser that moves, with parts of dicts, and episodes that end inside."""
    agent = transforms.standardize_obs(_agent(cell), SPEC.obs)
    loop = on_policy.make(_env(), agent, N, T, 1, LIMIT)

    @jax.jit
    def run(key):
        def step(state, _):
            state, metrics = loop.step(state, ())
            return state, (metrics, state.train.stats['obs'], state.memory)

        start = loop.init(key)
        last, seen = jax.lax.scan(step, start, length=4)
        return start.train.stats['obs'], last, seen

    first, last, (metrics, stats, memory) = jax.device_get(run(jax.random.key(0)))
    np.testing.assert_allclose(metrics['first_ratio'], 1.0, atol=1e-5)
    assert (metrics['episodes'] > 0).all() and (np.abs(metrics['ratio'] - 1.0) > 1e-5).all()
    shifts = np.stack([first.mean['state'], *stats.mean['state']])
    assert (np.abs(np.diff(shifts, axis=0)).max(-1) > 0.01).all()
    assert all((np.abs(m).reshape(4, -1).max(-1) > 0).all() for m in jax.tree.leaves(memory))
    assert last.train.stats['obs'].count == 4 * T * N
    assert set(last.train.stats['obs'].mean) == set(SPEC.obs)


@functools.cache
def _replay_critic(cell):
    """(memories and values at each step of the experience, values of where each step led)."""
    state, batch, done = _experience(cell)
    _, critic = ppo_recurrent.networks(dataclasses.replace(CONFIG, cell=cell), SPEC)

    @jax.jit
    def replay(params, memory, batch):
        memories, values = critic.replay(params, memory, batch.obs, done)
        return memories, values, critic.step(params, memories, batch.next_obs)[1]

    return replay(state.params['critic'], batch.carry['critic'], batch)


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_sequences_are_replayed_as_they_were_acted(cell):
    """Means and values of the whole rollout, and where each step led."""
    state, batch, done = _experience(cell)
    actor, critic = ppo_recurrent.networks(dataclasses.replace(CONFIG, cell=cell), SPEC)
    params, memory = state.params, batch.carry
    _, means = jax.jit(actor.replay)(params['actor']['net'], memory['actor'], batch.obs, done)
    np.testing.assert_allclose(means, batch.extras['mean'], atol=1e-6)

    memories, values, beyond = jax.device_get(_replay_critic(cell))
    going, gap = ~done[:-1], np.abs(beyond[:-1] - values[1:])[..., 0]
    assert gap[going].max() < 1e-6  # it is what the next step is worth, but where an episode ended
    assert gap[~going].min() > 1e-6
    # at an end it is one step beyond from the memory of the episode that ended
    t, n = np.argwhere(done[:-1])[0]
    last, obs = (jax.tree.map(lambda x: x[t], tree) for tree in (memories, batch.next_obs))
    _, expected = jax.jit(critic.step)(params['critic'], last, obs)
    np.testing.assert_allclose(beyond[t, n], expected[n], atol=1e-6)


def test_the_memory_starts_anew_after_an_end_and_only_then():
    state, batch, done = _experience('gru')
    agent = _agent()
    t = int(np.flatnonzero(done[:-1].any(1) & ~done[:-1].all(1))[0])
    obs = jax.tree.map(lambda x: x[t + 1], batch.obs)
    _, extras = jax.jit(acting.act_of(agent))(state, obs, jax.random.key(0))
    gap = np.abs(extras['mean'] - batch.extras['mean'][t + 1]).max(-1)
    np.testing.assert_array_equal(gap < 1e-6, done[t])


def test_values_of_time_limits_use_the_memory_of_the_episode_that_ended(monkeypatch):
    """What `update` hands to `prepare`."""
    seen = []
    monkeypatch.setattr(ppo, 'prepare', lambda *args: seen.extend(args) or _stop())
    state, batch, done = _experience('gru')

    def handed_over(state, batch):
        with pytest.raises(StopIteration):
            _agent().update(state, batch, jax.random.key(0))
        return seen[2:]

    value, next_value = map(np.asarray, jax.jit(handed_over)(state, batch))
    gap = np.abs(next_value[:-1] - value[1:])
    assert gap[~done[:-1]].max() < 1e-6 and gap[done[:-1]].min() > 1e-6
    _, _, expected = _replay_critic('gru')
    np.testing.assert_allclose(next_value, expected[..., 0], atol=1e-6)


def _stop():
    raise StopIteration


def test_invalid_steps_move_nothing():
    agent = transforms.standardize_obs(_agent(), SPEC.obs)
    state, batch, _ = _experience('gru')
    state = state.replace(stats={'obs': normalize.welford(SPEC.obs)})
    bad = np.zeros((T, N), bool)
    bad[[2, 0], [1, 3]] = True
    batch = batch.replace(
        termination=batch.termination | bad,
        truncation=batch.truncation & ~bad,
        extras={**batch.extras, 'valid': np.float32(~bad)},
    )

    def spoiled(value) -> Transition:
        def spoil(x):
            return np.where(bad.reshape(bad.shape + (1,) * (x.ndim - 2)), np.float32(value), x)

        content = (batch.obs, batch.next_obs, batch.action, batch.reward)
        obs, next_obs, action, reward = jax.tree.map(spoil, content)
        return batch.replace(obs=obs, next_obs=next_obs, action=action, reward=reward)

    update = jax.jit(agent.update)
    first, *others = (update(state, spoiled(v), jax.random.key(3)) for v in (0.0, np.nan, 1e9))
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other, first)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first))


def test_the_past_matters_and_stays_in_its_environment():
    state, batch, _ = _experience('gru')
    act = jax.jit(lambda state, carry, obs, key: _agent().policy(state).act(carry, obs, key))
    obs = jax.tree.map(lambda x: x[0], batch.obs)
    carry = jax.tree.map(lambda m: m + 0.5 * np.eye(N, dtype=m.dtype)[1][:, None], batch.carry)
    means = [act(state, c, obs, jax.random.key(0))[2]['mean'] for c in (batch.carry, carry)]
    moved = np.abs(means[0] - means[1]).max(-1) > 1e-6
    np.testing.assert_array_equal(moved, np.arange(N) == 1)


def test_minibatches_must_divide_the_environments():
    state, batch, _ = _experience('gru')
    agent = _agent(num_minibatches=3)
    with pytest.raises(ValueError, match=r'num_minibatches: .* the 8 environments .* found 3'):
        jax.eval_shape(agent.update, state, batch, jax.random.key(0))


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'cell': 'rnn'}, r"agent.cell: expected one of \['gru', 'lstm'\], found 'rnn'"),
        ({'actor_obs': ('goal',)}, r"actor_obs: .* found \['goal'\]"),
        ({'activation': 'sine'}, "activation: .* found 'sine'"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        _agent(**fields)
