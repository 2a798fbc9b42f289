"""What robot-gated imitation asks an agent: is this chunk likely, do members agree, is it risky."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import bc, diffusion_policy, transforms
from jaxpolicy.agents.parts import risk
from jaxpolicy.ops import normalize
from jaxpolicy.types import Agent, Chunk, ScoringAgent, Spec
from tests import acting, weights

SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
COMMON = {'obs_horizon': 1, 'pred_horizon': 2, 'action_horizon': 1, 'warmup_updates': 10}
AFFINE = normalize.Affine(shift=np.full((1,), 0.1, 'f4'), scale=np.full((1,), 0.5, 'f4'))


def _chunk(num, key=0):
    """Actions are the first number of the observation."""
    obs = np.random.default_rng(key).uniform(-1.0, 1.0, (num, 1, 2)).astype(np.float32)
    return Chunk(obs, np.repeat(obs[:, :, :1], 2, axis=1), np.ones((num, 2), bool))


@functools.cache
def _trained(agent, num_updates=300):
    """The state after learning from these chunks, and the metrics of the last update."""

    @jax.jit
    def learn(chunks, keys):
        def step(state, inputs):
            return agent.update(state, *inputs)

        return jax.lax.scan(step, agent.init(jax.random.key(0)), (chunks, keys))

    chunks = jax.tree.map(lambda *x: np.stack(x), *(_chunk(64, i) for i in range(num_updates)))
    state, metrics = learn(chunks, jax.random.split(jax.random.key(0), num_updates))
    return state, jax.tree.map(lambda x: x[-1], jax.device_get(metrics))


@functools.cache
def _bc(head='gaussian'):
    return bc.make(bc.Config(head=head, width=32, num_blocks=1, learning_rate=3e-3, **COMMON), SPEC)


def _diffusion():
    fields = {'network': 'mlp', 'width': 32, 'num_blocks': 1, 'learning_rate': 3e-3}
    config = diffusion_policy.Config(objective='x0', num_sample_steps=4, **fields, **COMMON)
    return diffusion_policy.make(config, SPEC)


@pytest.mark.parametrize('make', [_bc, _diffusion])
def test_a_trained_agent_is_surprised_by_other_actions(make):
    agent = make()
    state, _ = _trained(agent)
    chunk = _chunk(50, 1000)
    other = chunk.replace(action=-chunk.action)
    far = np.abs(chunk.action[:, 0, 0]) > 0.3
    surprise = jax.jit(agent.surprise)
    seen = [np.asarray(surprise(state, c, jax.random.key(1))) for c in (chunk, other)]
    assert seen[0].shape == (50,)
    assert (seen[0] < seen[1])[far].mean() > 0.95


def test_of_bc_it_is_minus_the_mean_log_density():
    agent = _bc()
    chunk = _chunk(3)
    chunk.mask[0, 1] = False

    @jax.jit
    def both(params, chunk):
        state = agent.init(jax.random.key(0)).replace(params=params, target_params=params)

        def nll(row):  # of a batch of one, the loss is that row's
            row = jax.tree.map(lambda x: x[None], row)
            return agent.update(state, row, jax.random.key(1))[1]['nll']

        return agent.surprise(state, chunk, jax.random.key(1)), jax.lax.map(nll, chunk)

    np.testing.assert_allclose(*both(weights.acting(agent).params, chunk), rtol=1e-5)


def test_it_is_measured_in_normalised_units():
    inner = _bc()
    agent = transforms.normalize_action(inner, AFFINE)
    state, chunk = weights.acting(agent, action=AFFINE), _chunk(4)
    normal = chunk.replace(action=normalize.apply(AFFINE, chunk.action))
    np.testing.assert_allclose(
        jax.jit(agent.surprise)(state, chunk, jax.random.key(1)),
        jax.jit(inner.surprise)(state, normal, jax.random.key(1)),
        rtol=1e-5,
    )


def test_bc_without_a_density_has_none():
    assert type(_bc('mse')) is Agent
    assert type(_bc('mixture')) is type(_diffusion()) is ScoringAgent


def test_members_learn_apart_and_disagree_where_nothing_was_learnt():
    agent = transforms.ensemble(_bc('mse'), 3)
    state, metrics = _trained(agent)
    known = _chunk(50).obs
    act, act_one = jax.jit(acting.act_of(agent)), jax.jit(acting.act_of(_bc('mse')))
    _, near = act(state, known, jax.random.key(0))
    action, far = act(state, known * 5.0, jax.random.key(0))
    assert near['disagreement'].mean() < 0.1 * far['disagreement'].mean()
    members = [
        act_one(jax.tree.map(lambda x: x[i], state), known * 5.0, jax.random.key(0))[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(action, members[0], rtol=1e-5, atol=1e-6)  # of values near 1
    spread = np.var(members, axis=0).mean((1, 2))
    np.testing.assert_allclose(far['disagreement'], spread, rtol=1e-3)


def test_an_ensemble_of_one_is_refused():
    with pytest.raises(ValueError, match='at least 2 agents.*found 1'):
        transforms.ensemble(_bc(), 1)


def test_risk_is_the_share_that_failed():
    known = risk.make(risk.Config(32), SPEC, 1, 2, normalize.identity(SPEC.obs))
    rng, outcomes = np.random.default_rng(0), []
    for i in range(400):
        chunk = _chunk(64, i)
        failed = rng.random(64) < np.where(chunk.obs[:, 0, 0] > 0.0, 0.8, 0.1)
        weight = np.ones(64, np.float32)
        weight[:8] = 0.0
        failed[:8] = True  # and do not count
        outcomes.append(risk.Outcomes(chunk.obs, chunk.action, chunk.mask, failed, weight))

    @jax.jit
    def learn(outcomes, chunk):
        state, _ = jax.lax.scan(
            lambda s, o: (known.update(s, o), None), known.init(jax.random.key(0)), outcomes
        )
        return known.predict(state, chunk)

    chunk = _chunk(200, 5)
    found = np.asarray(learn(jax.tree.map(lambda *x: np.stack(x), *outcomes), chunk))
    right = chunk.obs[:, 0, 0]
    assert abs(found[right > 0.2].mean() - 0.8) < 0.1
    assert abs(found[right < -0.2].mean() - 0.1) < 0.1
