"""Goals that hindsight may replace: every task that has some, along random episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import envs, registry
from jaxpolicy.envs.tasks import reach
from jaxpolicy.envs.wrap import vectorize
from tests.envs import native

# Tolerances with which random episodes have both rewards, and where cube and effector are seen.
TOLERANCE = {'pick': 0.16, 'reach': 0.35}
NUM, STEPS = 16, 40


def test_tasks_with_goals_are_known():
    tasks = set(registry.TABLES['envs']) - {'playground'}  # of which there are many
    assert {name for name in tasks if envs.resolve(name).goals} == set(TOLERANCE)


@pytest.fixture(scope='module', params=sorted(TOLERANCE))
def rollout(request):
    """The name, the step of N worlds, the goals, the first states [N] and the states [T, N]."""
    name = request.param
    fields = {'backend': 'native'} if name == 'pick' else {}  # the one that compiles quickly
    task = envs.resolve(name)
    config = task.module.Config(reward='sparse', tolerance=TOLERANCE[name], **fields)
    with native.arms():
        env = vectorize.vectorize(task.make(config))
    first, step = jax.jit(env.reset)(jax.random.split(jax.random.key(0), NUM)), jax.jit(env.step)
    state, states, rng = first, [], np.random.default_rng(1)
    for _ in range(STEPS):
        action = rng.uniform(-1, 1, (NUM, *env.spec.action.shape)).astype(np.float32)
        states.append(state := step(state, action))
    states = jax.device_get([state.replace(key=()) for state in states])
    states = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *states)
    states = states.replace(key=jax.random.split(jax.random.key(2), (STEPS, NUM)))
    return name, step, task.goals(config), first, states


def _truth(name, sim):
    """What was reached [T, N, 3], from the simulation's state."""
    return sim.body.trail[..., 0, :] if name == 'reach' else sim.physics.qpos[..., 9:12]


def test_goals_are_those_of_the_simulation(rollout):
    name, _, goals, _, states = rollout
    np.testing.assert_allclose(goals.achieved(states.obs), _truth(name, states.sim), atol=1e-6)
    np.testing.assert_array_equal(goals.wanted(states.obs), states.sim.goal)


def test_the_reward_is_the_sparse_one_of_the_env(rollout):
    _, _, goals, _, states = rollout
    assert 0.1 < np.mean(states.reward) < 0.9
    assert set(np.unique(states.reward)) == {0.0, 1.0}
    np.testing.assert_array_equal(goals.reward(states.next_obs), states.reward)


def test_the_own_goal_changes_nothing(rollout):
    _, _, goals, first, states = rollout
    np.testing.assert_allclose(
        goals.replace(states.obs, goals.wanted(first.obs)), states.obs, atol=1e-6
    )


def test_success_is_being_there_for_long(rollout):
    name, step, goals, _, states = rollout
    last = jax.tree.map(lambda x: x[-1], states)
    there, long = goals.achieved(last.next_obs), jnp.asarray(np.arange(NUM, dtype=np.int32))
    action = np.zeros((NUM, 8 if name == 'pick' else 7), np.float32)
    state = step(last.replace(sim=last.sim.replace(goal=there, held=long)), action)
    np.testing.assert_array_equal(state.reward, np.ones(NUM))
    np.testing.assert_array_equal(state.metrics['success'], np.arange(NUM) >= 9)  # ten steps
    state = step(last.replace(sim=last.sim.replace(goal=there + 1.0, held=long)), action)
    assert not np.asarray(state.reward).any() and not np.asarray(state.metrics['success']).any()


def test_another_goal_is_seen_as_if_it_had_been_meant(rollout):
    """A step again, with another goal in the simulation: the same observation and reward."""
    name, step, goals, _, states = rollout
    other = goals.achieved(states.next_obs[-1])  # [N, 3]
    replaced = goals.replace(states.next_obs, other)
    np.testing.assert_array_equal(goals.reward(replaced[-1]), 1.0)  # it got there
    assert np.mean(goals.reward(replaced)) > np.mean(states.reward)
    before = jax.tree.map(lambda x: x[-2], states)
    action = jnp.zeros((NUM, 8 if name == 'pick' else 7))
    plain = step(before, action)
    meant = step(before.replace(sim=before.sim.replace(goal=other)), action)
    found = goals.replace(plain.next_obs, other)
    np.testing.assert_allclose(found, meant.next_obs, atol=1e-6)
    np.testing.assert_array_equal(goals.reward(found), meant.reward)
    assert np.abs(found - plain.next_obs).max() > 0.05


def test_reach_knows_two_rewards():
    assert reach.Config().reward == 'dense'
    with pytest.raises(ValueError, match=r"reward: expected one of .*found 'shaped'"):
        reach.make(reach.Config(reward='shaped'))
