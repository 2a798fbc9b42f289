"""A2C and REINFORCE: what an update does to a rollout, worked out by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from jaxpolicy.agents import a2c, reinforce
from jaxpolicy.types import Spec, Transition
from tests import acting, weights

T, N, M = 5, 3, 4
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((M,), jnp.int8))
ENDED = np.zeros((T, N), bool)  # by the task in one world, by time in another, in the last not
ENDED[2, :2] = True
MODULES = {'a2c': a2c, 'reinforce': reinforce}
GAMMA = 0.9
LINEAR = {'hidden': (), 'gamma': GAMMA, 'learning_rate': 1.0}  # logits and values: W x + b
DEFAULTS = {  # the numbers that tests change: data of one program
    'a2c': {'entropy_cost': 0.0, 'value_cost': 0.5, 'max_grad_norm': 1e9, 'reward_scale': 1.0},
    'reinforce': {'baseline_learning_rate': 1.0, 'reward_scale': 1.0},
}


@pytest.fixture(autouse=True)
def plain_steps(monkeypatch):
    """Plain gradient descent, so that what the parameters move by is the gradient."""
    for name in ('adam', 'rmsprop'):
        monkeypatch.setattr(optax, name, lambda rate, **_: optax.sgd(rate))


def _rollout(seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, T, N, 2)).astype(np.float32)
    next_obs[:-1] = np.where(ENDED[:-1, :, None], next_obs[:-1], obs[1:])
    return Transition(
        obs=obs,
        action=np.eye(M, dtype=np.int8)[rng.integers(M, size=(T, N))],
        reward=rng.normal(size=(T, N)).astype(np.float32),
        termination=ENDED & [True, False, False],
        truncation=ENDED & [False, True, False],
        next_obs=next_obs,
        extras={'valid': np.ones((T, N), np.float32)},
    )


@functools.cache
def _program(name, num_baseline_steps=1):
    """(costs and the like, state, batch) -> (state, metrics), and a state to start from."""
    more = {'num_baseline_steps': num_baseline_steps} if name == 'reinforce' else {}
    config = MODULES[name].Config(**LINEAR, **more)

    def update(numbers, state, batch):
        agent = MODULES[name].make(dataclasses.replace(config, **numbers), SPEC)
        return agent.update(state, batch, jax.random.key(0))

    agent = MODULES[name].make(config, SPEC)
    return jax.jit(update), _state(agent), jax.jit(acting.act_of(agent))


def _state(agent):
    """Parameters that say something: those of a fresh policy are next to 0."""
    state = jax.jit(agent.init)(jax.random.key(0))
    return state.replace(params=weights.random(state.params, std=1.0, seed=7))


def _linear(params, obs):
    layer = params['params']['Dense_0']
    return obs @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])


def _moved(name, batch, numbers, num_baseline_steps=1):
    """(state, metrics, gradients of actor and critic: of kernel and bias, in one array)."""
    update, state, _ = _program(name, num_baseline_steps)
    new, metrics = jax.device_get(update(DEFAULTS[name] | numbers, state, batch))
    grads = {}
    for network in ('actor', 'critic'):
        a, b = (s.params[network]['params']['Dense_0'] for s in (state, new))
        grads[network] = np.vstack([a['kernel'] - b['kernel'], (a['bias'] - b['bias'])[None]])
    return state, metrics, grads


def _expected(state, batch, target, mask):
    """The gradients of -E[(G - V) log pi] and E[(V - G)^2] / 2 over the steps of the mask."""
    value = _linear(state.params['critic'], batch.obs)[..., 0]
    probs = special.softmax(_linear(state.params['actor'], batch.obs), -1)
    inputs = np.concatenate([batch.obs, np.ones((T, N, 1))], -1)
    advantage, each = target - value, mask / mask.sum()
    actor = np.einsum('tni,tnm,tn->im', inputs, probs - batch.action, each * advantage)
    return {'actor': actor, 'critic': np.einsum('tni,tn->i', inputs, -each * advantage)[:, None]}


def _targets(batch, next_value, gamma, bootstrap):
    """R of every step: to the end of its episode or of the rollout, and there a bootstrap."""
    target = np.zeros((T, N))
    for n in range(N):
        for t in reversed(range(T)):
            beyond = target[t + 1, n] if t + 1 < T else bootstrap * next_value[t, n]
            beyond = (not batch.termination[t, n]) * next_value[t, n] if ENDED[t, n] else beyond
            target[t, n] = batch.reward[t, n] + gamma * beyond
    return target


def test_a2c_steps_down_the_gradient_of_n_step_advantages():
    batch = _rollout()
    state, metrics, found = _moved('a2c', batch, {})
    next_value = _linear(state.params['critic'], batch.next_obs)[..., 0]
    target = _targets(batch, next_value, GAMMA, bootstrap=1.0)
    expected = _expected(state, batch, target, np.ones((T, N)))
    np.testing.assert_allclose(found['actor'], expected['actor'], atol=1e-5)
    np.testing.assert_allclose(found['critic'], 0.5 * expected['critic'], atol=1e-5)
    norm = np.sqrt(sum((x**2).sum() for x in found.values()))
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-4)

    _, _, clipped = _moved('a2c', batch, {'max_grad_norm': 0.1 * norm})  # one norm for both
    for network in found:
        np.testing.assert_allclose(clipped[network], 0.1 * found[network], atol=1e-5)


def test_a2c_is_paid_for_entropy():
    """All rewards and values 0: what is left is the entropy's gradient."""
    batch, costs = _rollout(), ({'entropy_cost': 0.3}, {'entropy_cost': 0.0})
    (state, _, found), (_, _, without) = (
        _moved('a2c', batch, {'value_cost': 0.0, **cost}) for cost in costs
    )
    logits = _linear(state.params['actor'], batch.obs)
    probs = special.softmax(logits, -1)
    surprise = -special.log_softmax(logits, -1)
    entropy = (probs * surprise).sum(-1, keepdims=True)
    inputs = np.concatenate([batch.obs, np.ones((T, N, 1))], -1)
    wanted = np.einsum('tni,tnm->im', inputs, probs * (surprise - entropy)) / (T * N)
    np.testing.assert_allclose(without['actor'] - found['actor'], 0.3 * wanted, atol=1e-5)


def test_reinforce_steps_down_the_gradient_of_known_returns():
    batch = _rollout()
    state, metrics, found = _moved('reinforce', batch, {})
    next_value = _linear(state.params['critic'], batch.next_obs)[..., 0]
    known = np.zeros((T, N))
    known[:3, :2] = 1.0  # later no episode ends, nor does one in the third world
    target = _targets(batch, next_value, GAMMA, bootstrap=np.nan)
    expected = _expected(state, batch, np.where(known, target, 0.0), known)
    for network in found:
        np.testing.assert_allclose(found[network], expected[network], atol=1e-5)
    np.testing.assert_allclose(metrics['known_fraction'], 6 / 15)


def test_reinforce_bootstraps_where_time_ran_out_and_nowhere_else():
    batch, (update, state, _) = _rollout(), _program('reinforce')

    def baseline(next_obs):
        new, _ = update(DEFAULTS['reinforce'], state, batch.replace(next_obs=next_obs))
        return np.asarray(new.params['critic']['params']['Dense_0']['bias'])

    felt = np.zeros((T, N), bool)
    for t, n in np.ndindex(T, N):
        other = batch.next_obs.copy()
        other[t, n] += 1.0
        felt[t, n] = np.abs(baseline(other) - baseline(batch.next_obs)) > 1e-6
    np.testing.assert_array_equal(felt, batch.truncation)


def test_the_baseline_takes_its_number_of_steps():
    batch, numbers = _rollout(), {'baseline_learning_rate': 0.1}
    first, several = (_moved('reinforce', batch, numbers, steps) for steps in (1, 30))
    np.testing.assert_array_equal(first[2]['actor'], several[2]['actor'])
    assert np.abs(several[2]['critic']).max() > 3 * np.abs(first[2]['critic']).max()
    assert several[1]['explained_variance'] == first[1]['explained_variance']  # of the old one


@pytest.mark.parametrize('name', MODULES)
def test_rewards_are_scaled(name):
    batch = _rollout()
    smaller = batch.replace(reward=np.float32(0.1) * batch.reward)
    a, b = _moved(name, batch, {'reward_scale': 0.1})[2], _moved(name, smaller, {})[2]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


@pytest.mark.parametrize('name', MODULES)
def test_choices_are_one_hot(name):
    _, state, act = _program(name)
    obs = np.ones((500, 2), np.float32)
    action, extras = jax.device_get(act(state, obs, jax.random.key(1), False))
    assert action.dtype == np.int8 and (action.sum(-1) == 1).all()
    probs = special.softmax(extras['logits'][0])
    np.testing.assert_allclose(action.mean(0), probs, atol=0.1)
    np.testing.assert_allclose(extras['log_prob'], np.log(probs)[action.argmax(-1)], rtol=1e-4)
    mode, _ = act(state, obs, jax.random.key(1), True)
    assert (np.asarray(mode).argmax(-1) == probs.argmax()).all()
