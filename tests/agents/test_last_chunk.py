"""Plans that begin with the last one: what is carried, where sampling starts, what is kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import bc, diffusion_policy
from jaxpolicy.agents.parts import last_chunk
from jaxpolicy.nets import mlp_denoiser
from jaxpolicy.types import Spec
from tests import weights

TO, TP, TA, A = 2, 4, 2, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = diffusion_policy.Config(
    network='mlp', obs_horizon=TO, pred_horizon=TP, action_horizon=TA, width=16, num_blocks=1,
    num_sample_steps=4, objective='flow', sampler='euler', clip=100.0,
)  # fmt: skip
RNG = np.random.default_rng(0)
HISTORY = np.zeros((2, TO, 3), np.float32)
PLAIN = diffusion_policy.make(CONFIG, SPEC)
STATE = weights.acting(PLAIN)  # its last layer, too, says something


@functools.cache
def _make(warm_start_steps=0, inpaint_actions=0):
    sampling = diffusion_policy.sampling(CONFIG, SPEC)
    return last_chunk.plan_from_last_chunk(
        PLAIN, sampling, TA, TO, warm_start_steps, inpaint_actions
    )


@functools.cache
def _jitted(agent):
    return jax.jit(lambda carry: agent.policy(STATE).act(carry, HISTORY, jax.random.key(1)))


def _plan(agent, carry=None):
    """(the chunk, the carry after it)."""
    first = agent.policy(STATE).init(HISTORY) if carry is None else carry
    after, chunk, extras = _jitted(agent)(first)
    assert extras == {}
    return np.asarray(chunk), jax.device_get(after)


def _under_way():
    """A carry of which the second row begins its episode."""
    last = RNG.normal(size=(2, TP, A)).astype(np.float32)
    return {'last': last, 'fresh': np.array([False, True])}


def test_an_episode_begins_with_no_chunk_and_plans_as_the_agent_alone():
    agent = _make(warm_start_steps=1)
    carry = agent.policy(STATE).init(HISTORY)
    assert carry['last'].shape == (2, TP, A) and carry['fresh'].all()
    _, expected, _ = _jitted(PLAIN)(())
    np.testing.assert_allclose(_plan(agent)[0], expected, atol=1e-6)


def test_what_is_carried_is_the_chunk_as_seen_after_its_execution():
    chunk, carry = _plan(_make(warm_start_steps=2))
    np.testing.assert_array_equal(carry['last'], chunk[:, [2, 3, 3, 3]])
    assert not carry['fresh'].any()


def test_a_warm_start_runs_only_the_last_steps_from_the_last_chunk():
    """By hand: the carried chunk noised to t = 3/4, then one Euler step to data."""
    agent, carry = _make(warm_start_steps=1), _under_way()
    chunk, _ = _plan(agent, carry)
    eps = jax.random.normal(jax.random.split(jax.random.key(1))[0], (2, TP, A))
    x, net = 0.75 * carry['last'] + 0.25 * np.asarray(eps), mlp_denoiser.MLPDenoiser(16, 1)
    time = np.full(2, 25.0, np.float32)
    velocity = jax.jit(net.apply)(STATE.params['denoiser'], x, time, HISTORY)
    np.testing.assert_allclose(chunk[0], (x + 0.25 * velocity)[0], atol=1e-5)
    # the one that begins its episode starts from noise, as if it were alone
    cold, _ = _plan(_make(warm_start_steps=4))
    np.testing.assert_allclose(chunk[1], cold[1], atol=1e-5)


def test_the_actions_under_way_are_kept():
    agent, carry = _make(inpaint_actions=1), _under_way()
    chunk, _ = _plan(agent, carry)
    free, _ = _plan(agent)
    np.testing.assert_allclose(chunk[0, :2], carry['last'][0, :2], atol=1e-5)  # To - 1 past, 1 now
    assert np.abs(chunk[0, 2:] - carry['last'][0, 2:]).min() > 1e-4
    np.testing.assert_allclose(chunk[1], free[1], atol=1e-5)  # its episode begins


def test_the_soft_mask_falls_from_one_to_nothing():
    mask = last_chunk.soft_mask(16, TO, 8, inpaint_actions=3)
    assert (mask[:4] == 1).all() and (mask[8:] == 0).all()
    assert (np.diff(mask[3:9]) < 0).all()
    c = (8 - 5) / (8 - 4 + 1)
    np.testing.assert_allclose(mask[5], c * (np.exp(c) - 1) / (np.e - 1), rtol=1e-6)


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r'execute\.warm_start_steps: expected 0 to 4, found 5'):
        _make(warm_start_steps=5)
    with pytest.raises(ValueError, match=r'execute\.inpaint_actions: expected 0 to 1 .*found 2'):
        _make(inpaint_actions=2)
    sampling = diffusion_policy.sampling(CONFIG, SPEC)
    midpoint = sampling._replace(sampler=diffusion_policy.samplers.midpoint)
    with pytest.raises(ValueError, match=r'execute\.warm_start_steps: .*even number .*found 3'):
        last_chunk.check_warm_start(midpoint, 3)


def test_an_agent_that_does_not_denoise_is_refused():
    agent = bc.make(bc.Config(width=8, num_blocks=1), SPEC)
    sampling = diffusion_policy.sampling(CONFIG, SPEC)
    with pytest.raises(ValueError, match='expected a ScoringAgent .*found Agent'):
        last_chunk.plan_from_last_chunk(agent, sampling, TA, TO, 1)
