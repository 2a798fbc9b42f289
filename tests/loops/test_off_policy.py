"""What a round says that it did, with the buffer on the device and on the host."""

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from jaxpolicy.loops import off_policy, off_policy_host
from jaxpolicy.types import Agent, Policy, ReplayAgent, memoryless
from tests.loops import point

CONFIG = off_policy.Config(
    num_envs=4, rollout_length=2, num_minibatches=3, batch_size=4, buffer_size=64,
    learning_starts=10, iterations_per_round=5, pool_size=4,
)  # fmt: skip


class Counted(struct.PyTreeNode):
    step: jax.Array
    observed: jax.Array  # steps of experience


def _counter() -> Agent:
    """Counts its minibatches, and stands still."""

    def init(key):
        del key
        return Counted(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(state, batch, key):
        del key
        metrics = {'td_error': jnp.zeros_like(batch.reward)}
        return state.replace(step=state.step + len(batch.reward)), metrics

    return Agent(init, update, lambda *_: memoryless(lambda obs, key: (0.0 * obs, {})))


def _watcher() -> ReplayAgent:
    def observe(state, rollout):
        return state.replace(observed=state.observed + rollout.reward.size)

    return ReplayAgent(*_counter(), observe)


def _make(module, agent):
    return module.make(point.env(), agent, CONFIG, 0.9, point.HORIZONS.episode)


@pytest.mark.parametrize('module', [off_policy, off_policy_host])
def test_a_round_says_what_it_did_and_the_first_one_counts_the_random_steps(module):
    loop = _make(module, _watcher())
    jit = jax.jit if module is off_policy else lambda f: f
    state, step = jit(loop.init)(jax.random.key(0)), jit(loop.step)
    random, usual = 4 * 3, 4 * 2 * 5  # 10 random steps are 3 of each world
    total = 0
    for expected in (random + usual, usual, usual):
        state, metrics = step(state, ())
        assert metrics['env_steps'] == expected
        assert metrics['updates'] == 3 * 5
        assert metrics['updates'].dtype == metrics['env_steps'].dtype == jnp.int32
        total += expected
        assert state.train.observed == total  # each step is taken in once, when it is new
    assert state.train.step == 3 * 3 * 5


def test_an_agent_that_takes_nothing_in_is_not_asked_to():
    loop = _make(off_policy, _counter())
    state, _ = jax.jit(loop.step)(jax.jit(loop.init)(jax.random.key(0)), ())
    assert state.train.observed == 0 and state.train.step == 3 * 5


def test_an_agent_that_remembers_is_refused():
    policy = Policy(lambda obs: jnp.zeros(len(obs)), _counter().policy(()).act)
    loop = _make(off_policy, _counter()._replace(policy=lambda *_: policy))
    with pytest.raises(ValueError, match='loop off_policy: expected a policy that remembers noth'):
        jax.eval_shape(loop.init, jax.random.key(0))
