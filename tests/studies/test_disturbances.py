"""Disturbances of a traced strength, on an environment that shows what it was told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from experiments.studies.shift import disturbances
from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.tasks import detour, parts, pusht
from jaxpolicy.envs.wrap import auto_reset, time_limit, vectorize
from jaxpolicy.types import Env, EnvState, Spec

N, STD = 64, np.array([0.5, 2.0, 0.0], np.float32)
SPEC = Spec(*(jax.ShapeDtypeStruct((n,), jnp.float32) for n in (3, 2)))


class Sim(struct.PyTreeNode):
    time: jax.Array
    start: jax.Array
    qvel: jax.Array


def _env(length=100) -> Env:
    """obs: steps so far, three times; metrics: the action's first number and the start."""

    def reset(key):
        key, own = jax.random.split(key)
        zero, no, start = jnp.zeros(()), jnp.zeros((), bool), jax.random.uniform(own)
        sim, metrics = Sim(zero, start, jnp.zeros(2)), {'action': zero, 'start': start}
        return EnvState(jnp.zeros(3), jnp.zeros(3), zero, no, no, metrics, key, sim)

    def step(state, action):
        sim = state.sim.replace(time=state.sim.time + 1)
        obs = jnp.full(3, sim.time)
        metrics = {'action': action[0], 'start': sim.start}
        return EnvState(
            obs, obs, sim.time, sim.time >= length, jnp.zeros((), bool), metrics, state.key, sim
        )

    return Env(reset, step, SPEC)


def _run(make, strength, num_steps):
    """Actions 1, 2, 3...; the first state [N], the states [T, N] after each step."""

    @jax.jit
    def run(strength, keys):
        env = vectorize.vectorize(make(strength))
        first = env.reset(keys)

        def step(state, t):
            state = env.step(state, jnp.full((N, 2), t, jnp.float32))
            return state, state

        return first, jax.lax.scan(step, first, jnp.arange(1, num_steps + 1))[1]

    return jax.device_get(run(strength, jax.random.split(jax.random.key(0), N)))


STARTS = _run(lambda _: _env(), 0.0, 1)[1].metrics['start'][0]


def _check(first, states):
    """The starts are the undisturbed ones, and `next_obs` is what the policy sees."""
    np.testing.assert_array_equal(states.metrics['start'], np.tile(STARTS, (len(states.key), 1)))
    np.testing.assert_array_equal(states.obs, states.next_obs)
    np.testing.assert_array_equal(first.obs, first.next_obs)


def test_noise_on_actions_has_its_deviation():
    first, states = _run(lambda std: disturbances.noise_action(_env(), std), 0.3, 50)
    error = states.metrics['action'] - np.arange(1, 51)[:, None]
    assert 0.28 < error.std() < 0.32 and abs(error.mean()) < 0.02
    assert (np.diff(error, axis=0) != 0).all()
    _check(first, states)


@pytest.mark.parametrize('delay', [0, 3, 5])
def test_actions_arrive_exactly_so_late(delay):
    def make(delay):
        return disturbances.late_action(_env(), delay, 5, lambda state: state.obs[:2] - 7.0)

    first, states = _run(make, delay, 8)
    times = np.arange(1, 9) - delay
    np.testing.assert_array_equal(states.metrics['action'][:, 0], np.where(times > 0, times, -7))
    _check(first, states)


def test_noise_on_columns_has_their_deviations():
    first, states = _run(lambda std: disturbances.noise_obs(_env(), std), STD, 50)
    error = states.obs - states.sim.time[..., None]
    np.testing.assert_allclose(error.std((0, 1)), STD, rtol=0.05)
    assert (np.diff(error[..., :2], axis=0) != 0).all()
    _check(first, states)


def test_a_bias_is_constant_in_an_episode_and_another_in_the_next():
    def make(std):
        return disturbances.bias_obs(_env(), std)

    first, states = _run(make, STD, 5)
    error = np.concatenate([first.obs[None], states.obs - states.sim.inner.time[..., None]])
    np.testing.assert_allclose(error, np.tile(error[0], (6, 1, 1)), atol=1e-5)
    assert len(np.unique(error[0, :, 0])) == N and not error[..., 2].any()
    np.testing.assert_allclose(error[0].std(0), STD, rtol=0.25)
    _check(first, states)
    one = vectorize.vectorize(make(STD))
    env = auto_reset.auto_reset(one, one.reset(jax.random.split(jax.random.key(5), 4)))
    state = env.reset(jax.random.split(jax.random.key(6), 4))
    before = state.sim.bias
    state = env.step(state.replace(sim=state.sim.replace(inner=_old(state))), jnp.zeros((4, 2)))
    assert state.termination.all() and (state.sim.bias[:, :2] != before[:, :2]).all()


def _old(state):
    """The state of an episode that ends at its next step."""
    return state.sim.inner.replace(time=jnp.full_like(state.sim.inner.time, 99.0))


def test_dropout_has_its_rate_and_its_fill():
    def make(probability):
        return disturbances.drop_obs(_env(), probability, np.array([-1.0, -2.0, -3.0]))

    first, states = _run(make, 0.2, 50)
    missing = states.obs != states.sim.time[..., None]
    np.testing.assert_array_equal(states.obs[missing], np.tile([-1, -2, -3], (50, N, 1))[missing])
    np.testing.assert_allclose(missing.mean((0, 1)), 0.2, atol=0.03)
    assert 0.1 < (missing[..., 0] & missing[..., 1]).mean() / 0.2 < 0.3  # each for itself
    _check(first, states)


def test_a_push_changes_the_velocity_exactly_once():
    first, states = _run(lambda size: disturbances.push_once(_env(), size, (2, 5)), 0.7, 10)
    change = np.diff(np.concatenate([np.zeros((1, N, 2)), states.sim.inner.qvel]), axis=0)
    pushed = (change != 0).any(-1)
    assert (pushed.sum(0) == 1).all() and set(pushed.argmax(0)) == {2, 3, 4, 5}
    np.testing.assert_allclose(np.abs(change[pushed]), 0.7, rtol=1e-6)
    assert len(np.unique(change[pushed], axis=0)) == 4  # each number has its own sign
    _check(first, states)


@pytest.mark.parametrize('relative', [True, False])
def test_between_two_decisions_the_targets_hold(relative):
    first, states = _run(lambda k: disturbances.hold(_env(), k, relative), 3, 4)
    np.testing.assert_array_equal(states.sim.time[:, 0], [3, 6, 9, 12])
    np.testing.assert_array_equal(states.reward[:, 0], [6, 15, 24, 33])
    np.testing.assert_array_equal(states.metrics['action'][:, 0], np.arange(1, 5) * (not relative))
    np.testing.assert_array_equal(states.metrics['env_steps'], 3.0)
    _check(first, states)


def test_a_held_step_stops_where_the_episode_ends():
    def make(interval):
        return disturbances.hold(time_limit.time_limit(_env(5), 100), interval, False)

    _, states = _run(make, 3, 2)
    np.testing.assert_array_equal(states.termination[:, 0], [False, True])
    np.testing.assert_array_equal(states.obs[:, 0, 0], [3, 5])
    np.testing.assert_array_equal(states.reward[:, 0], [6, 9])
    np.testing.assert_array_equal(states.metrics['env_steps'][:, 0], [3, 2])


def test_what_cannot_be_is_refused():
    pictures = _env()._replace(spec=SPEC._replace(obs={'a': SPEC.obs, 'b': SPEC.obs}))
    with pytest.raises(ValueError, match='expected a flat observation, found the shapes'):
        disturbances.noise_obs(pictures, 1.0)
    state = _env().reset(jax.random.key(0))
    with pytest.raises(ValueError, match="expected one array 'pose' in the state, found 0"):
        env = disturbances.push_once(_env(), 1.0, (0, 1), 'pose')
        env.step(env.reset(state.key), jnp.zeros(2))


def test_outward_draws_leave_the_box_and_keep_their_directions():
    centre = jnp.array([1.0, -2.0, 0.5])
    drawn = jax.vmap(lambda k: parts.around(k, centre, jnp.full(3, 0.04)))(
        jax.random.split(jax.random.key(0), 500)
    )

    def offsets(inner):
        moved = jax.vmap(lambda x: parts.outwards(x, centre, 0.04, inner))(drawn)
        return np.asarray(moved - centre)

    np.testing.assert_array_equal(
        jax.vmap(lambda x: parts.outwards(x, centre, 0.04, 0.0))(drawn), drawn
    )
    ring, far, old = offsets(0.02), offsets(0.1), np.asarray(drawn - centre)
    assert (np.abs(ring).max(1) >= 0.02 - 1e-6).all() and np.abs(ring).max() <= 0.04 + 1e-6
    np.testing.assert_allclose(np.abs(far).max(1), 0.1, atol=1e-6)
    np.testing.assert_allclose(far / 0.1, old / np.abs(old).max(1, keepdims=True), atol=1e-4)


@functools.cache
def push_t_starts():
    """Push-T, and 200 states in which its episodes begin."""
    env = pusht.make(pusht.Config(obs='state', block_inner=170.0))
    return env, jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 200))


def test_starts_of_tasks_lie_outside_the_box_always():
    keys = jax.random.split(jax.random.key(0), 200)
    env = detour.make(detour.Config(joint_noise_inner=0.06))
    joints = jax.jit(lambda keys: jax.vmap(env.reset)(keys).obs[:, :7])  # and compiles no more
    offset = joints(keys) - arm.make(7, detour.HOME).home
    np.testing.assert_allclose(np.abs(offset).max(1), 0.06, atol=1e-5)
    state = push_t_starts()[1]
    # the angle turns the block about its centre of mass, which stays
    pose = np.asarray(state.sim.world.pose[:, :2]) - np.array([250.0, 250.0 + 45.0])
    free = np.abs(pose).max(1) <= 171.0  # not pushed out of a wall or of the agent
    assert free.mean() > 0.5 and (np.abs(pose).max(1) > 165.0).all()


def test_the_agent_stays_where_its_action_says():
    env, states = push_t_starts()

    @jax.jit
    def stay(states):
        state = jax.tree.map(lambda x: x[0], states)
        return env.step(state, pusht.stay(state)).obs

    np.testing.assert_allclose(stay(states)[:2], np.asarray(states.obs)[0, :2], atol=1e-2)
