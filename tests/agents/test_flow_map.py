"""Flow maps against closed forms: of a Gaussian, x_r is an affine function of x_t."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.agents import diffusion_policy, flow_map
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives
from jaxpolicy.nets import encoders
from jaxpolicy.types import Chunk, Spec
from tests import acting, weights

MEAN, STD = 0.4, 0.3
BATCH = 128
SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
CONFIG = {
    'network': 'mlp',
    'obs_horizon': 1,
    'pred_horizon': 1,
    'action_horizon': 1,
    'width': 32,
    'num_blocks': 1,
    'warmup_updates': 10,
    'learning_rate': 3e-3,
    'clip': 100.0,
}


def _scale(t):
    """The deviation of x_t for x_0 ~ N(MEAN, STD^2)."""
    return jnp.sqrt((t * STD) ** 2 + (1.0 - t) ** 2)


def exact(x, t, r):
    """The average velocity of the marginal flow from t to r."""
    end = r * MEAN + _scale(r) / _scale(t) * (x - t * MEAN)
    safe = jnp.where(r > t, r - t, 1.0)
    return jnp.where(r > t, (end - x) / safe, velocity(x, t))


def velocity(x, t):
    """E[x_0 - eps | x_t], the derivative of the flow."""
    rate = (t * STD**2 - (1.0 - t)) / _scale(t) ** 2
    return MEAN + rate * (x - t * MEAN)


def _times(pairs):
    t, r = np.asarray(pairs, np.float32).T
    return t.reshape(-1, 1, 1), r.reshape(-1, 1, 1)


T, R = _times([(0.0, 1.0), (0.1, 0.5), (0.3, 0.9), (0.6, 0.7), (0.5, 0.5)])
X = np.random.default_rng(0).normal(size=(5, 1, 1)).astype(np.float32)


def test_the_mean_flow_identity_holds_for_the_exact_map():
    """u = v + (r - t) du/dt along the marginal velocity."""
    found, target = flow_map.mean_flow(exact, X[:4], T[:4], R[:4], velocity(X[:4], T[:4]))
    np.testing.assert_allclose(found, target, atol=2e-5)


def test_two_jumps_are_one_for_the_exact_map():
    target = flow_map.shortcut(exact, X, T, R, velocity(X, T))
    np.testing.assert_allclose(target, exact(X, T, R), atol=1e-5)


@pytest.mark.parametrize('longest', [0.01, 0.1])
def test_a_step_of_the_teacher_and_a_jump_are_the_exact_map(longest):
    target = flow_map.consistency_trajectory(exact, velocity, X, T, R, longest)
    np.testing.assert_allclose(target, exact(X, T, R), atol=0.2 * longest**2 + 2e-5)


def test_a_teacher_that_goes_all_the_way_is_the_exact_map_and_asks_no_student():
    def nobody(x, t, r):
        raise AssertionError('a student was asked')

    coarse, fine = (
        flow_map.consistency_trajectory(nobody, velocity, X, T, R, 1.0, n) - exact(X, T, R)
        for n in (4, 16)
    )
    assert jnp.abs(fine).max() < 2e-3
    assert jnp.abs(fine).max() < jnp.abs(coarse).max() / 8  # of second order


@pytest.mark.parametrize('num_steps', [1, 2, 5])
def test_samples_of_the_exact_map_are_exact_in_any_number_of_jumps(num_steps):
    found = flow_map.sample(exact, X, num_steps)
    np.testing.assert_allclose(found, MEAN + STD * X, atol=1e-5)


def test_targets_have_no_gradient_and_the_loss_is_their_error():
    def loss(scale):
        u = lambda x, t, r: scale * exact(x, t, r)  # noqa: E731
        found, target = flow_map.mean_flow(u, X, T, R, velocity(X, T))
        return jnp.sum(found - target)

    expected = jnp.sum(exact(X, T, R))  # of `found` alone
    np.testing.assert_allclose(jax.grad(loss)(2.0), expected, rtol=1e-4)


def test_times_are_in_order_and_the_share_is_kept():
    draw = jax.jit(flow_map.draw_times, static_argnums=(1, 2))
    t, r = map(np.asarray, draw(jax.random.key(0), 10_000, 0.3))
    assert (t <= r).all() and (t >= 0).all() and (r <= 1).all()
    jump = t != r
    assert abs(float(jump.mean()) - 0.7) < 0.02
    assert abs(float((t[jump] == 0).mean()) - 0.5) < 0.02
    assert abs(float((r[jump] == 1).mean()) - 0.5) < 0.02
    between = r[jump & (r < 1)]  # the larger of two uniform numbers: mean 2/3
    assert abs(float(between.mean()) - 2 / 3) < 0.02
    assert abs(float(t[~jump].mean()) - 0.5) < 0.02


def test_adaptive_weights_by_hand():
    error = jnp.asarray([[[3.0], [9.0]], [[1.0], [2.0]]])
    mask = jnp.asarray([[1.0, 0.0], [1.0, 1.0]])
    found = flow_map.adaptive_weight(error, mask, 0.5)
    np.testing.assert_allclose(found, [9.001**-0.5, 2.501**-0.5], rtol=1e-5)


def _bimodal(key):
    """Actions -0.6 and 0.6 with deviation 0.1, one in four is -0.6."""
    keys = jax.random.split(key, 2)
    side = jnp.where(jax.random.bernoulli(keys[0], 0.25, (BATCH, 1, 1)), -0.6, 0.6)
    return side + 0.1 * jax.random.normal(keys[1], (BATCH, 1, 1))


def _gaussian(key):
    return MEAN + STD * jax.random.normal(key, (BATCH, 1, 1))


def _jitted(agent, begin):
    """(which data, updates, *args of `begin`) -> (state, 4000 actions); begin(*args) -> state."""

    def learn(gaussian, num_updates, *args):
        def step(i, state):
            batch_key, key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
            action = jnp.where(gaussian, _gaussian(batch_key), _bimodal(batch_key))
            batch = Chunk(jnp.zeros((BATCH, 1, 1)), action, jnp.ones((BATCH, 1), bool))
            return agent.update(state, batch, key)[0]

        state = jax.lax.fori_loop(0, num_updates, step, begin(*args))
        action, _ = acting.act_of(agent)(state, jnp.zeros((4000, 1, 1)), jax.random.key(2))
        return state, action.ravel()

    return jax.jit(learn)


# As the others learn, some seeds of mean flow stay between the modes.
NUM_UPDATES = {'mean_flow': 2000, 'shortcut': 1500, 'consistency_trajectory': 1500}
FIELDS = {'mean_flow': {'learning_rate': 1e-3, 'flow_share': 0.5}}


@functools.cache
def _program(loss):
    fields = CONFIG | {'decay_updates': NUM_UPDATES[loss]} | FIELDS.get(loss, {})
    agent = flow_map.make(flow_map.Config(**fields, loss=loss), SPEC)

    def begin(*teacher):
        state = agent.init(jax.random.key(0))
        return flow_map.teach(state, *teacher) if teacher else state

    return agent, _jitted(agent, begin)


@functools.cache
def _teacher():
    """The velocity field of the two modes, learnt by a flow."""
    config = diffusion_policy.Config(
        objective='flow', sampler='euler', decay_updates=1500, **CONFIG
    )
    agent = diffusion_policy.make(config, SPEC)
    state, _ = _jitted(agent, lambda: agent.init(jax.random.key(0)))(False, 1500)
    return state.target_params['denoiser']


@pytest.mark.parametrize('loss', flow_map.LOSSES)
def test_one_step_keeps_both_modes(loss):
    teacher = [_teacher()] if loss == 'consistency_trajectory' else []
    x = np.asarray(_program(loss)[1](False, NUM_UPDATES[loss], *teacher)[1])
    assert abs((x < 0).mean() - 0.25) < 0.08
    assert abs(x[x > 0].mean() - 0.6) < 0.1 and abs(x[x < 0].mean() + 0.6) < 0.2
    assert np.median(np.abs(np.abs(x) - 0.6)) < 0.16  # 0.07 in the data


def test_mean_flow_learns_a_gaussian():
    x = np.asarray(_program('mean_flow')[1](True, 1500)[1])
    assert abs(x.mean() - MEAN) < 0.05 and abs(x.std() - STD) < 0.08


def test_a_teacher_of_another_network_is_refused():
    agent = flow_map.make(flow_map.Config(**CONFIG, loss='consistency_trajectory'), SPEC)
    other = flow_map.Config(**CONFIG | {'width': 16}, loss='consistency_trajectory')
    agents = (agent, flow_map.make(other, SPEC))
    state, wrong = (jax.eval_shape(a.init, jax.random.key(0)) for a in agents)
    with pytest.raises(ValueError, match=r"the teacher's .*expected .*32.*found .*16"):
        flow_map.teach(state, wrong.params['teacher'])
    with pytest.raises(ValueError, match='unknown'):
        flow_map.teach(state, {**state.params['teacher'], 'more': np.zeros(1)})


@pytest.mark.parametrize('network', ['mlp', 'transformer', 'unet1d'])
def test_the_student_begins_as_its_teacher(network):
    """Untrained, its jumps are the Euler steps of the teacher's flow."""
    small = {'pred_horizon': 2, 'dims': (4,), 'kernel_size': 3, 'num_groups': 2}
    small |= {'width': 16, 'num_blocks': 1, 'num_heads': 2}
    fields = CONFIG | small | {'network': network}
    flow = diffusion_policy.Config(objective='flow', sampler='euler', num_sample_steps=3, **fields)
    theirs = diffusion_policy.make(flow, SPEC)
    taught = weights.acting(theirs)
    agent = flow_map.make(flow_map.Config(**fields, loss='consistency_trajectory'), SPEC)
    obs, key = jnp.ones((5, 1, 1)), jax.random.key(3)
    net, condition = chunks.network(flow), encoders.encode(obs, SPEC.obs)

    @jax.jit
    def both(taught):
        student = agent.init(jax.random.key(0))
        student = flow_map.teach(student, taught.target_params['denoiser'])
        wanted, _ = acting.act_of(theirs)(taught, obs, key)
        eps = jax.random.normal(jax.random.split(key)[0], wanted.shape)  # as the teacher draws it

        def act(params):
            u = flow_map.average(net, params, condition, objectives.K_MAX)
            return flow_map.sample(u, eps, 3)

        students = (student.params['denoiser'], student.target_params['denoiser'])
        return wanted, jax.lax.map(act, jax.tree.map(lambda *x: jnp.stack(x), *students))

    wanted, found = both(taught)
    assert np.abs(wanted).max() > 0.1
    for x in found:
        np.testing.assert_allclose(x, wanted, atol=1e-4)


def test_the_teacher_never_learns():
    agent, learn = _program('consistency_trajectory')
    teacher = weights.acting(agent).params['teacher']
    new, _ = learn(False, 5, teacher)
    jax.tree.map(np.testing.assert_array_equal, new.params['teacher'], teacher)
    assert set(new.opt_state) == set(new.target_params) == {'denoiser'}


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'loss': 'reflow'}, r"agent.loss: expected one of .*'mean_flow'.*found 'reflow'"),
        ({'flow_share': 1.5}, 'agent.flow_share: expected 0 to 1, found 1.5'),
        ({'teacher_step': 0.0}, 'agent.teacher_step: .*found 0.0'),
        ({'num_sample_steps': 0}, 'agent.num_sample_steps: expected at least 1, found 0'),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        flow_map.make(flow_map.Config(**CONFIG | fields), SPEC)
