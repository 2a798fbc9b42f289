"""Receding-horizon execution of a planner that writes into its chunk what it saw, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.loops import policies
from jaxpolicy.types import Policy, Spec, memoryless

TO, TP, TA = 3, 8, 4


def _scribe(calls=None, scale=1.0) -> Policy:
    """chunk[n, i] = [i, the To observations that the plan was made from]."""

    def act(obs, key):
        if calls is not None:
            jax.debug.callback(lambda: calls.append(1))
        num_envs = obs.shape[0]
        index = jnp.broadcast_to(
            jnp.arange(TP, dtype=jnp.float32)[None, :, None], (num_envs, TP, 1)
        )
        history = jnp.broadcast_to(obs[:, None, :, 0], (num_envs, TP, TO))
        return scale * jnp.concatenate([index, history], axis=-1), {}

    return memoryless(act)


def _run(policy, steps, num_envs=2, restart=None):
    """Sees 100 n + t; at each (step, env) of `restart` that env's memory starts anew. [T, N, .]"""
    act, carry, actions = jax.jit(policy.act), None, []
    for t in range(steps):
        obs = (100.0 * jnp.arange(num_envs) + t)[:, None]
        fresh = policy.init(obs)
        carry = fresh if carry is None else carry
        for when, env in restart or ():
            if when == t:
                carry = jax.tree.map(lambda f, c: c.at[env].set(f[env]), fresh, carry)
        carry, action, extras = act(carry, obs, jax.random.key(t))
        assert extras == {}
        actions.append(action)
    return np.stack(actions)


def test_which_actions_of_which_plan_are_executed():
    actions = _run(policies.receding_horizon(_scribe(), TO, TA), steps=10)
    index, history = actions[..., 0], actions[..., 1:]
    # the action that belongs to the last observation comes first: To - 1 .. To - 2 + Ta
    for n in range(2):
        np.testing.assert_array_equal(index[:, n], [2, 3, 4, 5, 2, 3, 4, 5, 2, 3])
        planned = [[0, 0, 0]] * 4 + [[2, 3, 4]] * 4 + [[6, 7, 8]] * 2
        np.testing.assert_array_equal(history[:, n], 100.0 * n + np.array(planned))


def test_every_step_can_be_planned():
    actions = _run(policies.receding_horizon(_scribe(), TO, 1), steps=4)
    np.testing.assert_array_equal(actions[:, 0, 0], 2.0)
    np.testing.assert_array_equal(actions[:, 0, 1:], [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]])


def test_worlds_that_restart_plan_by_themselves():
    """Env 1's episode restarts before step 2: it plans then, env 0 goes on with its own plan."""
    policy = policies.receding_horizon(_scribe(), TO, TA)
    actions = _run(policy, steps=8, restart=[(2, 1)])
    np.testing.assert_array_equal(actions[:, 0, 0], [2, 3, 4, 5, 2, 3, 4, 5])
    np.testing.assert_array_equal(actions[:, 1, 0], [2, 3, 2, 3, 4, 5, 2, 3])
    np.testing.assert_array_equal(actions[4:, 0, 1:], [[2, 3, 4]] * 4)
    np.testing.assert_array_equal(actions[2:6, 1, 1:], [[102, 102, 102]] * 4)  # nothing older
    np.testing.assert_array_equal(actions[6:, 1, 1:], [[104, 105, 106]] * 2)


@pytest.mark.parametrize('restart, expected', [([], 3), ([(2, 1)], 5)])
def test_the_planner_is_called_only_when_a_plan_is_needed(restart, expected):
    calls = []
    policy = policies.receding_horizon(_scribe(calls), TO, TA)
    _run(policy, steps=10, restart=restart)
    jax.effects_barrier()
    assert len(calls) == expected  # plans at 0, 4, 8; and at 2 and 6 by the world that restarted


def _voter() -> Policy:
    """A plan made at time t chooses among three for t, t + 1 and t + 2, as VOTES[t] says."""

    def act(obs, key):
        return jax.nn.one_hot(VOTES[obs[:, -1, 0].astype(int) % 100], 3, dtype=jnp.int8), {}

    return memoryless(act)


VOTES = jnp.array([[1, 1, 2], [2, 0, 2], [2, 0, 0], [1, 2, 2]])


@pytest.mark.parametrize(
    ('decay', 'expected'),
    [
        # Votes, the oldest first: 1; 1 2; 2 0 2; 2 0 1. The newest decides where all are equal.
        (0.0, [1, 2, 2, 1]),
        (0.1, [1, 1, 2, 2]),
        (-2.0, [1, 2, 2, 1]),
    ],
)
def test_plans_vote_on_choices(decay, expected):
    policy = policies.temporal_ensemble(_voter(), 1, decay)
    actions = _run(policy, steps=4)
    assert actions.dtype == np.int8 and (actions.sum(-1) == 1).all()
    for n in range(2):
        assert actions[:, n].argmax(-1).tolist() == expected


def test_observations_may_be_trees():
    def act(obs, key):
        chunk = obs['a'][:, -1, None] + obs['b'][:, 0, :, :1].sum(axis=1, keepdims=True)
        return jnp.broadcast_to(chunk, (2, TP, 1)), {}

    policy = policies.receding_horizon(memoryless(act), TO, TA)
    obs = {'a': jnp.asarray([[1.0], [2.0]]), 'b': jnp.ones((2, 2, 2))}
    carry = policy.init(obs)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(carry))
    _, action, _ = policy.act(carry, obs, jax.random.key(0))
    np.testing.assert_array_equal(action, [[3.0], [4.0]])


def test_a_plan_that_takes_time_begins_with_what_the_last_one_left():
    """With a delay of 2 the last chunk's next two actions are executed first."""
    policy = policies.receding_horizon(_scribe(), TO, 3, delay=2)
    actions = _run(policy, steps=9, restart=[(4, 1)])
    # env 0: 3 of the first plan; 2 left of it, then the plan of step 3 from its third action on
    np.testing.assert_array_equal(actions[:, 0, 0], [2, 3, 4, 5, 6, 4, 5, 6, 4])
    made_at = actions[:, 0, -1]
    np.testing.assert_array_equal(made_at, [0, 0, 0, 0, 0, 3, 3, 3, 6])
    # env 1 starts anew at step 4: its plan is there at once
    np.testing.assert_array_equal(actions[4:, 1, 0], [2, 3, 4, 5, 6])
    np.testing.assert_array_equal(actions[4:, 1, -1], [104] * 5)


def test_too_long_a_delay_is_refused():
    policy = policies.receding_horizon(_scribe(), TO, TA, delay=3)
    with pytest.raises(ValueError, match='at most the 3 actions.*delay of 3, found 4'):
        policy.init(jnp.zeros((1, 1)))


def _counter() -> Policy:
    """A planner that says how often it has planned in an episode."""

    def act(carry, obs, key):
        count = carry['count'] + 1
        chunk = jnp.broadcast_to(count[:, None, None], (len(count), TP, 1)).astype(jnp.float32)
        return {'count': count}, chunk, {}

    def init(obs):
        assert obs.shape[1] == TO  # a planner sees histories from the start
        return {'count': jnp.zeros(len(obs), jnp.int32)}

    return Policy(init, act)


def test_what_a_planner_remembers_changes_only_where_it_planned():
    policy = policies.receding_horizon(_counter(), TO, TA)
    actions = _run(policy, steps=9, restart=[(2, 1)])
    np.testing.assert_array_equal(actions[:, 0, 0], [1, 1, 1, 1, 2, 2, 2, 2, 3])
    np.testing.assert_array_equal(actions[:, 1, 0], [1, 1, 1, 1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize('decay', [0.0, 0.3, -0.5])
def test_temporal_ensembles_weigh_all_predictions_of_a_step(decay):
    actions = _run(policies.temporal_ensemble(_scribe(), TO, decay), steps=9)
    length = TP - TO + 1
    for t in range(9):
        made_at = np.arange(max(0, t - length + 1), t + 1)  # the oldest first
        weight = np.exp(-decay * np.arange(len(made_at)))
        index = np.sum(weight * (TO - 1 + t - made_at)) / weight.sum()
        np.testing.assert_allclose(actions[t, :, 0], index, rtol=1e-5)
        newest = np.sum(weight * made_at) / weight.sum()
        np.testing.assert_allclose(actions[t, 1, -1], 100.0 + newest, rtol=1e-5)


def test_temporal_ensembles_start_anew_with_an_episode():
    policy = policies.temporal_ensemble(_scribe(), TO, 0.0)
    actions = _run(policy, steps=5, restart=[(3, 1)])
    assert actions[3, 1, 0] == 2.0 and actions[3, 1, -1] == 103.0
    assert actions[3, 0, -1] == 1.5  # the mean of plans 0 to 3


def test_a_planner_with_a_memory_has_no_ensemble():
    policy = policies.temporal_ensemble(_counter(), TO, 0.0)
    with pytest.raises(ValueError, match='temporal_ensemble: expected a policy that remembers no'):
        policy.init(jnp.zeros((2, 1)))


def test_ahead_of_time_is_the_same_policy_compiled():
    spec = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.float32))
    calls = []

    def make(state):
        return policies.receding_horizon(_scribe(calls, state), TO, TA)

    policy = policies.ahead_of_time(make, jnp.asarray(0.1), spec, num_envs=2)
    jax.effects_barrier()
    assert len(calls) == 1  # it has planned once
    plain, obs = make(jnp.asarray(0.1)), np.zeros((2, 1))  # float64 is converted
    carry, expected = policy.init(obs), plain.init(jnp.asarray(obs, jnp.float32))
    for t in range(6):
        obs = obs + 1.0
        carry, action, _ = policy.act(carry, obs, jax.random.key(t))
        expected, wanted, _ = plain.act(expected, jnp.asarray(obs, jnp.float32), jax.random.key(t))
        np.testing.assert_array_equal(action, wanted)
    with pytest.raises(TypeError):  # compiled for two robots, and for nothing else
        policy.act(carry, np.zeros((3, 1)), jax.random.key(0))


def test_a_guarded_policy_holds_its_action_where_numbers_are_not_finite():
    def act(carry, obs, key):
        return carry + 1, 2.0 / obs, {}

    policy = Policy(lambda obs: jnp.zeros(len(obs), jnp.int32), act)
    spec = Spec(*(jax.ShapeDtypeStruct((1,), jnp.float32),) * 2)
    guarded = policies.guarded(policy, spec)
    rows = [[4.0, 4.0, 4.0, np.nan], [np.inf, 0.0, 0.5, 8.0], [8.0, 8.0, 8.0, np.nan]]
    wanted = [[0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 1.0, 0.25], [0.25, 0.25, 0.25, 0.25]]
    held = [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]]
    carry = guarded.init(jnp.asarray(rows[0])[:, None])
    for row, action, where in zip(rows, wanted, held, strict=True):
        carry, found, extras = guarded.act(carry, jnp.asarray(row)[:, None], jax.random.key(0))
        np.testing.assert_allclose(found[:, 0], action)
        np.testing.assert_array_equal(extras['held'], where)
    np.testing.assert_array_equal(carry['policy'], [2, 2, 3, 1])  # sound steps alone count
