"""Probe environments for agents that learn from replay: are the learned values right?"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import dqn, fast_td3, sac, td3
from jaxpolicy.loops import off_policy
from jaxpolicy.nets import critics
from tests import acting
from tests.learned import probe_envs

GAMMA = probe_envs.GAMMA
TARGET = -0.5  # nats, SAC's entropy
SMALL = {'gamma': GAMMA, 'learning_rate': 3e-3, 'tau': 0.05}
CONFIGS = {
    # a temperature so low that values are those of the rewards, unless actions get too alike
    'sac': sac.Config(hidden=(32,), init_temperature=1e-3, target_entropy=TARGET, **SMALL),
    'td3': td3.Config(hidden=(32,), policy_noise=0.05, **SMALL),
    'fast_td3': fast_td3.Config(
        actor_hidden=(32,), critic_hidden=(32,), min_value=-4.0, max_value=12.0, num_atoms=17,
        weight_decay=0.0, **SMALL,
    ),
    'dqn': dqn.Config(
        hidden=(32,), epsilon_updates=1, final_epsilon=0.5, **{**SMALL, 'learning_rate': 1e-2}
    ),
}  # fmt: skip
MODULES = {'sac': sac, 'td3': td3, 'fast_td3': fast_td3, 'dqn': dqn}
# One program for each agent: how it samples is not the agent's, so that each may do it another way.
SAMPLING = {
    'sac': {'n_step': 3},
    'dqn': {'priority_exponent': 0.6, 'priority_beta': 1.0},
}


@functools.cache
def _program(name):
    """(number of the probe, rounds, obs [5, 1], action [5, 1]) -> what `_learn` returns."""
    settings = off_policy.Config(
        num_envs=8,
        num_minibatches=4,
        batch_size=64,
        buffer_size=4_000,
        learning_starts=512,
        iterations_per_round=250,
        **SAMPLING.get(name, {}),
    )
    spec = probe_envs.DISCRETE if name == 'dqn' else probe_envs.SPEC
    agent = MODULES[name].make(CONFIGS[name], spec)

    def learn(number, num_rounds, obs, action):
        env = probe_envs.make(number, spec)
        loop = off_policy.make(env, agent, settings, GAMMA, probe_envs.LIMIT)
        start = loop.init(jax.random.key(0))
        metrics = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(loop.step, start, ())[1]
        )
        state, metrics = jax.lax.fori_loop(
            0, num_rounds, lambda _, both: loop.step(both[0], ()), (start, metrics)
        )
        best, _ = acting.act_of(agent)(state.train, obs, jax.random.key(0), True)
        return _value(name, state.train, obs, action), best, metrics

    return jax.jit(learn)


def _learn(name, probe, num_rounds, obs, action=None):
    """Trains in the real loop; returns Q(obs [n], action [n]), the best action at obs, metrics."""
    inputs = (probe_envs.column(x, 5) for x in (obs, action or [0.0] * len(obs)))
    value, best, metrics = _program(name)(probe_envs.NUMBER[probe], num_rounds, *inputs)
    return np.asarray(value)[: len(obs)], np.asarray(best)[: len(obs)], metrics


def _value(name, train, obs, action):
    config, params = CONFIGS[name], train.params['critic']
    if name == 'dqn':
        net = critics.ActionValues(config.hidden, 2, config.activation, config.duelling)
        return jnp.take_along_axis(net.apply(params, obs), action.astype(int), axis=1)[:, 0]
    if name == 'fast_td3':
        net = critics.Critics(2, config.critic_hidden, config.num_atoms, config.activation)
        atoms = jnp.linspace(config.min_value, config.max_value, config.num_atoms)
        return (jax.nn.softmax(net.apply(params, obs, action)) @ atoms).mean(0)
    return critics.Critics(2, config.hidden).apply(params, obs, action)[..., 0].mean(0)


every_agent = pytest.mark.parametrize('name', MODULES)


@every_agent
def test_a_time_limit_is_not_the_end_of_the_world(name):
    """Reward 1 for ever, seen through episodes of 10 steps: Q = 1 / (1 - gamma) = 10."""
    value, _, _ = _learn(name, 'for_ever', 3, [0.0])
    np.testing.assert_allclose(value, 1 / (1 - GAMMA), rtol=0.03)


@every_agent
def test_a_termination_is(name):
    """Reward 1 for five steps: Q counts those that are left."""
    value, _, _ = _learn(name, 'five_steps', 3, [0.0, 0.2, 0.4, 0.6, 0.8])
    expected = (1 - GAMMA ** np.array([5, 4, 3, 2, 1])) / (1 - GAMMA)
    np.testing.assert_allclose(value, expected, atol=0.15)


@every_agent
def test_values_depend_on_what_is_seen_and_done(name):
    """One step; the reward is the observation plus half the action."""
    low, high = (0.0, 1.0) if name == 'dqn' else (-0.5, 0.5)
    obs, action = [1.0, -1.0, 1.0, -1.0], [low, low, high, high]
    value, _, _ = _learn(name, 'seen_and_done', 3, obs, action)
    np.testing.assert_allclose(value, np.array(obs) + 0.5 * np.array(action), atol=0.1)


@every_agent
def test_later_rewards_are_discounted(name):
    """Two steps; only the second is rewarded."""
    value, _, _ = _learn(name, 'later', 2, [0.0, 1.0])
    np.testing.assert_allclose(value, [GAMMA, 1.0], atol=0.08)


@every_agent
def test_the_policy_finds_the_best_action(name):
    """One step; the best action is half of what is seen, or of two the one of its sign."""
    if name == 'dqn':
        _, best, _ = _learn(name, 'wrong_choice', 1, [1.0, -1.0])
        np.testing.assert_array_equal(best, [[0, 1], [1, 0]])
        return
    _, best, _ = _learn(name, 'half', 4, [1.0, -1.0])
    np.testing.assert_allclose(best[:, 0], [0.5, -0.5], atol=0.15)


def test_prioritised_samples_and_their_weights_leave_values_right():
    """A reward of one in ten episodes, drawn far more often than it comes: Q is its mean."""
    value, _, _ = _learn('dqn', 'rare', 2, [0.0, 0.0], [0.0, 1.0])
    np.testing.assert_allclose(value, 0.1, atol=0.05)


def test_the_entropy_is_brought_to_its_target():
    """One step, all actions alike: SAC's policy becomes as random as it was told to be."""
    _, _, metrics = _learn('sac', 'small', 5, [0.0])
    np.testing.assert_allclose(metrics['entropy'], TARGET, atol=0.1)
