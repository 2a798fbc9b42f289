import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxpolicy import optimizers
from jaxpolicy.agents import ppo, transforms
from jaxpolicy.ops import distributions, normalize
from jaxpolicy.types import Spec, Transition
from tests import acting, weights

T, N, A = 4, 6, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = ppo.Config(hidden=(16,), num_epochs=2, num_minibatches=2)


@functools.cache
def _act(agent):
    """Jitted, for T x N observations."""
    return jax.jit(jax.vmap(acting.act_of(agent), in_axes=(None, 0, 0)))


@functools.cache
def _start(agent):
    """Its first state, and its jitted update; the tests share both."""
    if agent is RUNNING:
        return _start(PLAIN)[0].replace(stats={'obs': _statistics()}), jax.jit(agent.update)
    return jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)


def _statistics(spec=SPEC):
    return normalize.welford(spec.obs)


DICT_SPEC = SPEC._replace(
    obs={
        'state': jax.ShapeDtypeStruct((2,), jnp.float32),
        'privileged_state': jax.ShapeDtypeStruct((2, 2), jnp.float32),
    }
)
PLAIN = ppo.make(CONFIG, SPEC)
RUNNING = transforms.standardize_obs(PLAIN, SPEC.obs, clip=2.0)
# Its learning rate is constant, and it sees only a part of a dict.
CONSTANT = ppo.make(
    dataclasses.replace(CONFIG, target_kl=0.0, actor_obs=('state',), critic_obs=('state',)),
    DICT_SPEC,
)


def _rollout(agent, state, seed, offset=0.0):
    """Random experience [T, N] whose actions are the agent's own."""
    rng = np.random.default_rng(seed)
    obs, next_obs = (offset + 5 * rng.normal(size=(2, T, N, 3))).astype(np.float32)
    action, extras = _act(agent)(state, obs, jax.random.split(jax.random.key(seed), T))
    return Transition(
        obs=obs,
        action=action,
        reward=rng.normal(size=(T, N)).astype(np.float32),
        termination=rng.random((T, N)) < 0.1,
        truncation=rng.random((T, N)) < 0.1,
        next_obs=next_obs,
        extras={**extras, 'valid': np.ones((T, N), np.float32)},
    )


def _dict_rollout(seed):
    """The same, but of dicts and of another agent."""
    obs, next_obs = (
        weights.random(
            jax.tree.map(lambda s: s.update(shape=(T, N, *s.shape)), DICT_SPEC.obs), 1.0, i
        )
        for i in (2 * seed, 2 * seed + 1)
    )
    batch = jax.device_get(_rollout(PLAIN, _start(PLAIN)[0], seed))
    return batch.replace(obs=obs, next_obs=next_obs)


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _rates(state):
    return [float(s.hyperparams['learning_rate']) for s in state.opt_state.values()]


def _with_rate(state, rate):
    return state.replace(opt_state=optimizers.set_rate(state.opt_state, np.float32(rate)))


def test_the_first_ratio_is_one_with_a_running_normaliser():
    state, update = _start(RUNNING)
    for i in range(5):  # the statistics keep moving: every rollout lies elsewhere
        before = normalize.affine(state.stats['obs'])
        batch = _rollout(RUNNING, state, i, offset=3.0 * i)
        state, metrics = update(state, batch, jax.random.key(i))
        np.testing.assert_allclose(metrics['first_ratio'], 1.0, atol=1e-5)
        after = normalize.affine(state.stats['obs'])
        assert np.abs(after.shift - before.shift).max() > 0.1
        assert abs(metrics['ratio'] - 1.0) > 1e-5  # later ones are not


def test_the_normaliser_takes_in_a_rollout_after_the_update():
    state, update = _start(RUNNING)
    batch = _rollout(RUNNING, state, 0, offset=1.0)
    state, _ = update(state, batch, jax.random.key(0))
    flat = np.asarray(batch.obs).reshape(-1, 3)
    fitted = normalize.affine(state.stats['obs'])
    np.testing.assert_allclose(fitted.shift, flat.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.scale, flat.std(0), rtol=1e-4)

    batch = _rollout(RUNNING, state, 1)
    batch.extras['valid'][0] = 0.0
    new, metrics = update(state, batch, jax.random.key(1))
    shift, scale = np.asarray(fitted.shift), np.asarray(fitted.scale)
    seen = {
        name: np.clip((getattr(batch, name) - shift) / scale, -2.0, 2.0)
        for name in ('obs', 'next_obs')
    }
    expected, expected_metrics = _start(PLAIN)[1](
        state.replace(stats={}), batch.replace(**seen), jax.random.key(1)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        (new.params, metrics),
        (expected.params, expected_metrics),
    )
    assert new.stats['obs'].count == T * N + (T - 1) * N  # invalid steps are not counted


def test_invalid_steps_move_nothing():
    """What a broken world reports is irrelevant, NaN too."""
    state, update = _start(RUNNING)
    state, _ = update(state, _rollout(RUNNING, state, 0), jax.random.key(0))
    batch = jax.device_get(_rollout(RUNNING, state, 1))
    bad = np.zeros((T, N), bool)
    bad[[2, 0], [1, 3]] = True
    batch = batch.replace(
        termination=batch.termination | bad,
        truncation=batch.truncation & ~bad,
        extras={**batch.extras, 'valid': np.float32(~bad)},
    )

    def spoil(x, value):
        return np.where(bad.reshape(bad.shape + (1,) * (x.ndim - 2)), np.float32(value), x)

    def spoiled(value):
        content = (batch.obs, batch.next_obs, batch.action, batch.reward)
        obs, next_obs, action, reward = (spoil(x, value) for x in content)
        extras = {k: spoil(v, value) for k, v in batch.extras.items() if k != 'valid'}
        extras['valid'] = batch.extras['valid']
        return batch.replace(
            obs=obs, next_obs=next_obs, action=action, reward=reward, extras=extras
        )

    first, *others = (
        update(state, spoiled(v), jax.random.key(2)) for v in (0.0, 1.5, np.nan, -np.inf)
    )
    for other in others:
        _equal(other, first)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first))
    # the same spoiling of steps that do count is felt
    counted = [
        b.replace(extras={**b.extras, 'valid': np.ones((T, N), np.float32)})
        for b in (spoiled(0.0), spoiled(1.5))
    ]
    a, b = (update(state, x, jax.random.key(2))[0].params['critic'] for x in counted)
    gap = jax.tree.map(lambda x, y: np.abs(x - y).max(), a, b)
    assert max(jax.tree.leaves(gap)) > 1e-5


@pytest.mark.parametrize(
    'rate, kl, expected',
    [
        (1e-3, 0.05, 1e-3 / 1.5),
        (1e-3, 0.001, 1.5e-3),
        (1e-3, 0.01, 1e-3),
        (1e-3, 0.019, 1e-3),
        (1e-3, 0.006, 1e-3),
        (1.2e-5, 0.05, 1e-5),
        (4e-3, 0.0, 5e-3),
    ],
)
def test_the_learning_rate_follows_the_divergence(rate, kl, expected):
    config = ppo.Config(target_kl=0.01, min_learning_rate=1e-5, max_learning_rate=5e-3)
    found = ppo.adapt_learning_rate(config, jnp.asarray(rate), jnp.asarray(kl))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    fixed = dataclasses.replace(config, target_kl=0.0)
    assert ppo.adapt_learning_rate(fixed, jnp.asarray(rate), jnp.asarray(kl)) == jnp.asarray(rate)


@pytest.mark.parametrize('offset, factor', [(0.0, 1.5), (5.0, 1 / 1.5)])
def test_the_learning_rate_is_state(offset, factor):
    """Four minibatches; the policy that acted is the one that learns, or one far away."""
    state, update = _start(PLAIN)
    assert _rates(state) == pytest.approx([1e-3, 1e-3])
    state = _with_rate(state, 1e-4)
    batch = _rollout(PLAIN, state, 0)
    batch.extras['mean'] += offset
    state, _ = update(state, batch, jax.random.key(0))
    assert _rates(state) == pytest.approx([1e-4 * factor**4] * 2, rel=1e-5)


def test_a_constant_learning_rate_is_constant():
    state, update = _start(CONSTANT)
    new, _ = update(state, _dict_rollout(0), jax.random.key(0))
    assert _rates(new) == pytest.approx([1e-3, 1e-3])
    gap = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, state.params)
    assert min(max(jax.tree.leaves(gap[name])) for name in gap) > 1e-4


def test_the_learning_rate_in_the_state_is_the_one_that_steps():
    state, update = _start(CONSTANT)
    new, _ = update(_with_rate(state, 0.0), _dict_rollout(0), jax.random.key(0))
    _equal(new.params, state.params)


_prepare = jax.jit(ppo.prepare, static_argnums=0)


def test_advantages_are_normalised_over_the_rollout_and_targets_are_not():
    batch = _rollout(PLAIN, _start(PLAIN)[0], 3)
    batch.extras['valid'][1, 2] = 0.0
    rng = np.random.default_rng(0)
    value, next_value = rng.normal(size=(2, T, N)).astype(np.float32)
    data = _prepare(CONFIG, batch, value, next_value)
    assert data.obs.shape == (T, N, 3) and data.valid.sum() == T * N - 1
    kept = np.asarray(data.advantage)[np.asarray(data.valid) == 1]
    np.testing.assert_allclose((kept.mean(), kept.std()), (0.0, 1.0), atol=1e-5)
    last = np.asarray(batch.reward + CONFIG.gamma * (1 - batch.termination) * next_value)[-1]
    targets = np.asarray(data.target)
    np.testing.assert_allclose(targets[-1], last, rtol=1e-4, atol=1e-5)
    advantage = (targets - np.asarray(value))[np.asarray(data.valid) == 1]
    np.testing.assert_allclose(kept, (advantage - advantage.mean()) / advantage.std(), atol=1e-4)


def test_the_loss_is_the_sum_of_its_parts():
    rng = np.random.default_rng(1)
    mean, old_mean, action = rng.normal(size=(3, 8, A)).astype(np.float32)
    log_std, old_log_std = rng.uniform(-1, 0, size=(2, 8, A)).astype(np.float32)
    value, target, advantage = rng.normal(size=(3, 8)).astype(np.float32)
    valid = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)
    now, old = (stats.norm(m, np.exp(s)) for m, s in ((mean, log_std), (old_mean, old_log_std)))
    old_log_prob = old.logpdf(action).sum(-1).astype(np.float32)
    batch = ppo.Minibatch(
        np.zeros((8, 3)), action, old_log_prob, old_mean, old_log_std, advantage, target, valid
    )
    config = ppo.Config(clip=0.3, entropy_cost=0.7, value_cost=0.4)
    dist = distributions.Gaussian(mean, log_std)
    loss, metrics = jax.jit(ppo.ppo_loss, static_argnums=0)(config, dist, value, batch)

    ratio = np.exp(now.logpdf(action).sum(-1) - old_log_prob)
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 0.7, 1.3) * advantage)[:6].mean()
    entropy = now.entropy().sum(-1)[:6].mean()
    value_loss = 0.5 * ((value - target) ** 2)[:6].mean()
    np.testing.assert_allclose(loss, -surrogate - 0.7 * entropy + 0.4 * value_loss, rtol=1e-4)
    np.testing.assert_allclose(metrics['entropy'], entropy, rtol=1e-5)
    old_dist = distributions.Gaussian(old_mean, old_log_std)
    kl = np.asarray(jax.jit(lambda a, b: a.kl(b))(old_dist, dist))
    np.testing.assert_allclose(metrics['kl'], kl[:6].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['std'], np.exp(log_std).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['value'], value[:6].mean(), rtol=1e-4)


def test_one_norm_of_actor_and_critic_is_clipped(monkeypatch):
    """Plain gradient descent, one minibatch: the step is rate x clipped gradient."""
    monkeypatch.setattr(optax, 'adam', lambda rate: optax.sgd(rate))
    once = dataclasses.replace(CONFIG, num_epochs=1, num_minibatches=1, target_kl=0.0)
    state = jax.jit(ppo.make(once, SPEC).init)(jax.random.key(0))
    batch = _rollout(PLAIN, state, 0)

    @jax.jit
    def update(limit):
        agent = ppo.make(dataclasses.replace(once, max_grad_norm=limit), SPEC)
        return agent.update(state, batch, jax.random.key(0))

    moved = {}
    for limit in (1e-3, 1e9):
        new, metrics = update(limit)
        step = jax.tree.map(
            lambda a, b: np.asarray((b - a) / once.learning_rate, np.float64).ravel(),
            *jax.device_get((new.params, state.params)),
        )
        moved[limit] = {
            name: np.linalg.norm(np.concatenate(jax.tree.leaves(step[name]))) for name in step
        }
    actor, critic = moved[1e9]['actor'], moved[1e9]['critic']
    norm = np.hypot(actor, critic)
    assert min(actor, critic) > 0.1 * norm  # or the test would say little
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-3)
    np.testing.assert_allclose(
        [moved[1e-3]['actor'], moved[1e-3]['critic']], [1e-3 * actor / norm, 1e-3 * critic / norm],
        rtol=0.05,
    )  # fmt: skip


def test_actor_and_critic_see_what_they_are_told_to():
    config = dataclasses.replace(
        CONFIG, actor_obs=('state',), critic_obs=('privileged_state', 'state')
    )
    agent = transforms.standardize_obs(ppo.make(config, DICT_SPEC), DICT_SPEC.obs)
    assert jax.eval_shape(agent.init, jax.random.key(0)).stats['obs'] == jax.eval_shape(
        lambda: _statistics(DICT_SPEC)
    )
    state = weights.acting(agent, obs=_statistics(DICT_SPEC))

    def inputs(name):
        return min(x.shape[0] for x in jax.tree.leaves(state.params[name]) if x.ndim == 2)

    assert (inputs('actor'), inputs('critic')) == (2, 6)
    obs = {
        'state': np.ones((3, 2), np.float32),
        'privileged_state': np.ones((3, 2, 2), np.float32),
    }
    act = jax.jit(acting.act_of(agent))
    other = obs | {'privileged_state': np.full((3, 2, 2), -2.0, np.float32)}
    _equal(*(act(state, x, jax.random.key(1), False) for x in (obs, other)))
    changed = obs | {'state': np.full((3, 2), -2.0, np.float32)}
    modes = [act(state, x, jax.random.key(1), True)[0] for x in (obs, changed)]
    assert np.abs(modes[0] - modes[1]).max() > 1e-4


def test_what_neither_sees_moves_nothing():
    state, update = _start(CONSTANT)
    batch, other_obs = _dict_rollout(0), _dict_rollout(1).obs
    obs = batch.obs

    def run(obs):
        return update(state, batch.replace(obs=obs), jax.random.key(0))

    _equal(run(obs), run(obs | {'privileged_state': other_obs['privileged_state']}))
    gap = jax.tree.map(lambda a, b: np.abs(a - b).max(), run(obs), run(other_obs))
    assert max(jax.tree.leaves(gap[0].params['critic'])) > 1e-5


@pytest.mark.parametrize(
    'spec, fields, message',
    [
        (
            DICT_SPEC,
            {'critic_obs': ('priviliged_state',)},
            r"critic_obs: .*\['privileged_state', 'state'\], found \['priviliged_state'\]",
        ),
        (SPEC, {'actor_obs': ('state',)}, r"actor_obs: .* no dict, found \('state',\)"),
        (SPEC, {'activation': 'sine'}, "activation: .*'tanh'.* found 'sine'"),
    ],
)
def test_unknown_parts_and_activations_are_named(spec, fields, message):
    with pytest.raises(ValueError, match=message):
        ppo.make(dataclasses.replace(CONFIG, **fields), spec)


def test_the_critic_learns_from_scaled_rewards():
    batch = _rollout(PLAIN, _start(PLAIN)[0], 0)
    values = np.zeros((2, T, N), np.float32)
    scaled = _prepare(dataclasses.replace(CONFIG, reward_scale=10.0), batch, *values)
    plain = _prepare(CONFIG, batch, *values)
    np.testing.assert_allclose(scaled.target, 10.0 * plain.target, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaled.advantage, plain.advantage, atol=1e-5)


def test_act_tells_how_likely_its_actions_were():
    state, _ = _start(PLAIN)
    obs = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    act = jax.jit(acting.act_of(PLAIN))
    action, extras = act(state, obs, jax.random.key(2), False)
    reference = stats.norm(extras['mean'], np.exp(extras['log_std'])).logpdf(action).sum(-1)
    np.testing.assert_allclose(extras['log_prob'], reference, rtol=1e-4)
    np.testing.assert_allclose(np.exp(extras['log_std']), CONFIG.init_std, rtol=1e-5)
    mode, extras = act(state, obs, jax.random.key(2), True)
    np.testing.assert_array_equal(mode, extras['mean'])


def test_minibatches_must_divide_the_rollout():
    assert ppo.minibatch_size(24, 8, 'steps') == 3
    agent = ppo.make(dataclasses.replace(CONFIG, num_minibatches=5), SPEC)
    state, _ = _start(PLAIN)
    batch = _rollout(PLAIN, state, 0)
    with pytest.raises(ValueError, match=r'num_minibatches: .*the 24 steps.*found 5'):
        jax.eval_shape(agent.update, state, batch, jax.random.key(0))
