"""Probe environments for agents that learn from replay: are the learned values right?"""

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
SMALL = {'gamma': GAMMA, 'learning_rate': 3e-3, 'tau': 0.05}
CONFIGS = {
    # next to no entropy, so that values are those of the rewards
    'sac': sac.Config(hidden=(32,), init_temperature=1e-3, target_entropy=-8.0, **SMALL),
    'td3': td3.Config(hidden=(32,), policy_noise=0.05, **SMALL),
    'fast_td3': fast_td3.Config(
        actor_hidden=(32,), critic_hidden=(32,), min_value=-12.0, max_value=12.0, num_atoms=49,
        weight_decay=0.0, **SMALL,
    ),
    'dqn': dqn.Config(
        hidden=(32,), epsilon_updates=1, final_epsilon=0.5, **{**SMALL, 'learning_rate': 1e-2}
    ),
}  # fmt: skip
MODULES = {'sac': sac, 'td3': td3, 'fast_td3': fast_td3, 'dqn': dqn}


def _spec(name):
    return probe_envs.DISCRETE if name == 'dqn' else probe_envs.SPEC


def _learn(name, first_obs, transition, limit, steps=3, n_step=1, **changes):
    """Trains in the real loop; returns Q(obs [n], action [n]) and the best action at obs."""
    config = off_policy.Config(
        num_envs=8,
        num_minibatches=4,
        batch_size=64,
        buffer_size=4_000,
        learning_starts=512,
        n_step=n_step,
        iterations_per_round=250,
        **changes,
    )
    env = probe_envs.make(first_obs, transition, limit, _spec(name))
    agent = MODULES[name].make(CONFIGS[name], env.spec)
    loop = off_policy.make(env, agent, config, GAMMA, limit)
    state = jax.jit(loop.init)(jax.random.key(0))
    step = jax.jit(loop.step, donate_argnums=0)
    for _ in range(steps):
        state, _ = step(state, ())
    return _value(name, state.train), lambda obs: _best(agent, state.train, obs)


def _value(name, train):
    config, params = CONFIGS[name], train.params['critic']

    def value(obs, action):
        obs, action = (jnp.asarray(x, jnp.float32).reshape(-1, 1) for x in (obs, action))
        if name == 'dqn':
            net = critics.ActionValues(config.hidden, 2, config.activation, config.duelling)
            every = net.apply(params, obs)
            return jnp.take_along_axis(every, action.astype(int), axis=1)[:, 0]
        if name == 'fast_td3':
            net = critics.Critics(2, config.critic_hidden, config.num_atoms, config.activation)
            atoms = jnp.linspace(config.min_value, config.max_value, config.num_atoms)
            return (jax.nn.softmax(net.apply(params, obs, action)) @ atoms).mean(0)
        return critics.Critics(2, config.hidden).apply(params, obs, action)[..., 0].mean(0)

    return value


def _best(agent, train, obs):
    obs = jnp.asarray(obs, jnp.float32).reshape(-1, 1)
    action, _ = acting.act_of(agent)(train, obs, jax.random.key(0), True)
    return np.asarray(action)


every_agent = pytest.mark.parametrize('name', MODULES)
several_steps = pytest.mark.parametrize('name, n_step', [*((n, 1) for n in MODULES), ('sac', 3)])


@several_steps
def test_a_time_limit_is_not_the_end_of_the_world(name, n_step):
    """Reward 1 for ever, seen through episodes of 10 steps: Q = 1 / (1 - gamma) = 10."""
    move = lambda obs, action: (obs, 1.0, False)  # noqa: E731
    value, _ = _learn(name, probe_envs.zero, move, limit=10, n_step=n_step)
    np.testing.assert_allclose(value([0.0], [0.0]), 1 / (1 - GAMMA), rtol=0.03)


@several_steps
def test_a_termination_is(name, n_step):
    """Reward 1 for five steps: Q counts those that are left."""

    def transition(obs, action):
        return obs + 0.2, 1.0, obs > 0.7  # the fifth step starts at 0.8

    value, _ = _learn(name, probe_envs.zero, transition, limit=20, n_step=n_step)
    expected = (1 - GAMMA ** np.array([5, 4, 3, 2, 1])) / (1 - GAMMA)
    found = value([0.0, 0.2, 0.4, 0.6, 0.8], [0.0] * 5)
    np.testing.assert_allclose(found, expected, atol=0.15)


@every_agent
def test_values_depend_on_what_is_seen_and_done(name):
    """One step; the reward is the observation plus half the action."""
    move = lambda obs, action: (obs, obs + 0.5 * action, True)  # noqa: E731
    value, _ = _learn(name, probe_envs.sign, move, limit=5)
    actions = [0.0, 1.0] if name == 'dqn' else [-0.5, 0.5]
    for action in actions:
        wanted = np.array([1.0, -1.0]) + 0.5 * action
        np.testing.assert_allclose(value([1.0, -1.0], [action] * 2), wanted, atol=0.1)


@every_agent
def test_later_rewards_are_discounted(name):
    """Two steps; only the second is rewarded."""

    def transition(obs, action):
        return obs + 1.0, obs, obs > 0.5

    value, _ = _learn(name, probe_envs.zero, transition, limit=5, steps=2)
    np.testing.assert_allclose(value([0.0, 1.0], [0.0] * 2), [GAMMA, 1.0], atol=0.08)


@every_agent
def test_the_policy_finds_the_best_action(name):
    """One step; the best action is half of what is seen, or of two the one of its sign."""
    if name == 'dqn':
        move = lambda obs, action: (obs, obs * (2.0 * action - 1.0), True)  # noqa: E731
        _, best = _learn(name, probe_envs.sign, move, limit=5, steps=1)
        np.testing.assert_array_equal(best([1.0, -1.0]), [[0, 1], [1, 0]])
        return
    move = lambda obs, action: (obs, -((action - 0.5 * obs) ** 2), True)  # noqa: E731
    _, best = _learn(name, probe_envs.sign, move, limit=5, steps=4)
    np.testing.assert_allclose(best([1.0, -1.0])[:, 0], [0.5, -0.5], atol=0.15)


def test_prioritised_samples_and_their_weights_leave_values_right():
    """A reward of one in ten episodes, drawn far more often than it comes: Q is its mean."""
    rare = lambda key: jnp.where(jax.random.bernoulli(key, 0.1), 1.0, 0.0)  # noqa: E731
    move = lambda obs, action: (obs, obs, True)  # noqa: E731
    exponents = {'priority_exponent': 0.6, 'priority_beta': 1.0}
    value, _ = _learn('dqn', rare, move, limit=5, steps=2, **exponents)
    np.testing.assert_allclose(value([0.0, 1.0], [0, 0]), [0.0, 1.0], atol=0.05)


def test_the_entropy_is_brought_to_its_target():
    """One step, all actions alike: SAC's policy becomes as random as it was told to be."""
    target = -0.5
    config = sac.Config(hidden=(32,), target_entropy=target, init_temperature=0.1, **SMALL)
    move = lambda obs, action: (obs, -0.5 * action**2, True)  # noqa: E731
    env = probe_envs.make(probe_envs.zero, move, 5)
    settings = off_policy.Config(
        num_envs=8, num_minibatches=4, batch_size=64, buffer_size=4_000, learning_starts=512,
        iterations_per_round=400,
    )  # fmt: skip
    loop = off_policy.make(env, sac.make(config, env.spec), settings, GAMMA, 5)
    state, step = jax.jit(loop.init)(jax.random.key(0)), jax.jit(loop.step)
    for _ in range(3):
        state, metrics = step(state, ())
    np.testing.assert_allclose(metrics['entropy'], target, atol=0.1)
