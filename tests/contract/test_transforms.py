"""All transforms crossed with all agents: each composes, and does what it says, or refuses."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxpolicy import registry
from jaxpolicy.agents import inverse_dynamics, td3, transforms
from jaxpolicy.ops import normalize
from jaxpolicy.types import Agent, Chunk, ReplayAgent, ScoringAgent, Spec, Transition
from tests import weights

TO, TP, A, NUM = 2, 4, 2, 3
SPEC = Spec(jax.ShapeDtypeStruct((3,), np.float32), jax.ShapeDtypeStruct((A,), np.float32))
CHOICES = Spec(SPEC.obs, jax.ShapeDtypeStruct((A,), np.int8))
OBS = normalize.Affine(np.float32([1.0, -2.0, 0.5]), np.float32([2.0, 0.5, 1.5]))
ACTION = normalize.Affine(np.float32([0.1, 0.2]), np.float32([0.8, 0.5]))
HORIZONS = {'obs_horizon': TO, 'pred_horizon': TP, 'action_horizon': 2}
SMALL = {'width': 8, 'num_blocks': 1}
DENOISER = {'network': 'mlp', **SMALL, **HORIZONS}
FIELDS = {  # by the name of the agent; the others have `hidden`
    'bc': {**SMALL, **HORIZONS},
    'diffusion': {**DENOISER, 'num_train_steps': 4, 'num_sample_steps': 2},
    'drifting': DENOISER,
    'fast_td3': {'actor_hidden': (8,), 'critic_hidden': (8,)},
    'flow_map': DENOISER,
    'mip': DENOISER,
    'ppo_recurrent': {'hidden': (8,), 'memory_size': 8},
}
SEVERAL = {'bc_mixture': ('bc', {'head': 'mixture', 'num_components': 2})}
NAMES = [*sorted(registry.TABLES['agents']), *SEVERAL, 'inverse_dynamics', 'standardized']
TRANSFORMS = {
    'noise_obs': lambda agent: transforms.noise_obs(agent, 0.1),
    'normalize_obs': lambda agent: transforms.normalize_obs(agent, OBS),
    'normalize_action': lambda agent: transforms.normalize_action(agent, ACTION),
    'ensemble': lambda agent: transforms.ensemble(agent, 2),
    'standardize_obs': lambda agent: transforms.standardize_obs(agent, SPEC.obs),
    'standardize_replay': lambda agent: transforms.standardize_replay(agent, SPEC.obs),
}
REFUSED = {  # transform: kinds of agents that it refuses when it is built
    'noise_obs': (),
    'normalize_obs': (ReplayAgent,),
    'normalize_action': (),
    'ensemble': (ReplayAgent,),
    'standardize_obs': (ScoringAgent, ReplayAgent),
    'standardize_replay': (ScoringAgent, ReplayAgent),
}


class Inner(NamedTuple):
    agent: Any
    state: Any


@functools.cache
def _inner(name) -> Inner:
    """The agent, with weights that say something: some last layers are zero at first."""
    stats = {}
    module_name, more = SEVERAL.get(name, (name, {}))
    if name == 'inverse_dynamics':
        agent = inverse_dynamics.make(inverse_dynamics.Config(hidden=(8,)), SPEC)
        stats = {'inputs': normalize.welford(jax.ShapeDtypeStruct((6,), np.float32))}
    elif name == 'standardized':
        agent = transforms.standardize_replay(td3.make(td3.Config(hidden=(8,)), SPEC), SPEC.obs)
        stats = {'obs': normalize.welford(SPEC.obs)}
    else:
        module = registry.resolve('agents', module_name, 'config.agent.name')
        fields = FIELDS.get(module_name, {'hidden': (8,)}) | more
        agent = module.make(module.Config(**fields), CHOICES if name == 'dqn' else SPEC)
    return Inner(agent, weights.acting(agent, **stats))


def _observation(name, seed=1):
    plans = 'obs_horizon' in FIELDS.get(SEVERAL.get(name, (name,))[0], {})
    lead = (NUM, TO) if plans else (NUM,)
    obs = np.random.default_rng(seed).normal(0.0, 2.0, (*lead, 3)).astype(np.float32)
    return (obs, obs + np.float32(0.1)) if name == 'inverse_dynamics' else obs


def _act(agent, state, obs):
    policy = agent.policy(state, True)
    return policy.act(policy.init(obs), obs, jax.random.key(2))[1]


def _surprise(agent, state, obs, action):
    chunk = Chunk(obs, action, np.ones((NUM, TP), bool))
    return agent.surprise(state, chunk, jax.random.key(3))


def _rollout():
    rng = np.random.default_rng(4)
    obs = rng.normal(size=(5, NUM, 3)).astype(np.float32)
    action = rng.normal(0.0, 0.3, (5, NUM, A)).astype(np.float32)
    ones, no = np.ones((5, NUM), np.float32), np.zeros((5, NUM), bool)
    return Transition(obs, action, ones, no, no, obs + np.float32(0.1), {'valid': ones})


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('transform', TRANSFORMS)
def test_a_transform_carries_every_function_or_refuses(transform, name):
    inner, wrap = _inner(name), TRANSFORMS[transform]
    if isinstance(inner.agent, REFUSED[transform]):
        kind = type(inner.agent).__name__
        with pytest.raises(ValueError, match=f'{transform}: cannot surround a {kind}'):
            wrap(inner.agent)
        return
    outer = wrap(inner.agent)
    kind = ReplayAgent if transform == 'standardize_replay' else type(inner.agent)
    kind = Agent if transform == 'standardize_obs' else kind
    assert type(outer) is kind
    if transform == 'ensemble' and name == 'ppo_recurrent':
        with pytest.raises(ValueError, match='ensemble: expected a policy that remembers nothing'):
            state = jax.tree.map(lambda x: np.stack([x, x]), inner.state)
            outer.policy(state).init(_observation(name))
        return
    CHECKS[transform](outer, inner, name)


def _check_same(outer, inner, name):
    """Acts and scores as the agent inside."""
    obs = _observation(name)
    expected = _act(inner.agent, inner.state, obs)
    np.testing.assert_array_equal(_act(outer, inner.state, obs), expected)
    if isinstance(outer, ScoringAgent):
        found, wanted = (_surprise(a, inner.state, obs, expected) for a in (outer, inner.agent))
        np.testing.assert_array_equal(found, wanted)
    if isinstance(outer, ReplayAgent):
        found, wanted = (a.observe(inner.state, _rollout()) for a in (outer, inner.agent))
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def _check_normalised(outer, inner, name):
    """What the agent inside makes of the normalised observation."""
    state = inner.state.replace(stats={**inner.state.stats, 'obs': OBS})
    obs = _observation(name)
    seen = normalize.apply(OBS, obs)
    action = _act(outer, state, obs)
    np.testing.assert_allclose(action, _act(inner.agent, inner.state, seen), atol=1e-6)
    if isinstance(outer, ScoringAgent):
        found = _surprise(outer, state, obs, action)
        wanted = _surprise(inner.agent, inner.state, seen, action)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert np.abs(found - _surprise(inner.agent, inner.state, obs, action)).max() > 1e-3
    twice = transforms.normalize_obs(outer, OBS)
    with pytest.raises(ValueError, match='something normalises obs already'):
        jax.eval_shape(twice.init, jax.random.key(0))


def _check_inverted(outer, inner, name):
    """Actions in the units of the data outside, in the agent's own ones inside."""
    state = inner.state.replace(stats={**inner.state.stats, 'action': ACTION})
    obs = _observation(name)
    action, own = _act(outer, state, obs), _act(inner.agent, inner.state, obs)
    np.testing.assert_allclose(action, normalize.invert(ACTION, own), atol=1e-6)
    if isinstance(outer, ScoringAgent):
        found = _surprise(outer, state, obs, action)
        wanted = _surprise(inner.agent, inner.state, obs, own)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
    if isinstance(outer, ReplayAgent):
        seen = _rollout().replace(action=normalize.apply(ACTION, _rollout().action))
        found = outer.observe(state, _rollout()).stats
        wanted = inner.agent.observe(inner.state, seen).stats
        assert set(found) == {*wanted, 'action'}
        jax.tree.map(np.testing.assert_array_equal, {k: found[k] for k in wanted}, wanted)


def _check_members(outer, inner, name):
    """The first member acts and scores; the others only disagree."""
    stats = inner.state.stats
    state = jax.tree.map(
        lambda *x: np.stack(x), inner.state, weights.acting(inner.agent, seed=1, **stats)
    )
    obs = _observation(name)
    action = _act(inner.agent, inner.state, obs)
    np.testing.assert_allclose(_act(outer, state, obs), action, atol=1e-5)
    if isinstance(outer, ScoringAgent):
        found = _surprise(outer, state, obs, action)
        wanted = _surprise(inner.agent, inner.state, obs, action)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def _check_running(outer, inner, name):
    """Sees through its statistics, which chunks cannot teach."""
    welford = normalize.update(normalize.welford(SPEC.obs), _rollout().obs, np.ones((5, NUM)))
    state = inner.state.replace(stats={**inner.state.stats, 'obs': welford})
    obs = _observation(name)
    seen = normalize.apply(normalize.affine(welford), obs, 10.0)
    expected = _act(inner.agent, inner.state, seen)
    np.testing.assert_allclose(_act(outer, state, obs), expected, atol=1e-6)
    chunk = Chunk(obs, np.zeros((NUM, TP, A)), np.ones((NUM, TP), bool))
    with pytest.raises(ValueError, match='standardize_obs: expected batches of Transitions'):
        outer.update(state, chunk, jax.random.key(0))
    if isinstance(outer, ReplayAgent):
        found = outer.observe(state, _rollout()).stats['obs']
        assert found.count == 2 * welford.count


CHECKS = {
    'noise_obs': _check_same,
    'normalize_obs': _check_normalised,
    'normalize_action': _check_inverted,
    'ensemble': _check_members,
    'standardize_obs': _check_running,
    'standardize_replay': _check_running,
}
