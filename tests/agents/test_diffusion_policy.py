import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import registry
from jaxpolicy.agents import diffusion_policy
from jaxpolicy.diffusion import objectives
from jaxpolicy.nets import mlp_denoiser
from jaxpolicy.types import Chunk, Spec
from tests import acting, weights

B, TO, TP, A, K = 6, 2, 4, 2, 10
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = {
    'network': 'mlp',
    'obs_horizon': TO,
    'pred_horizon': TP,
    'action_horizon': 2,
    'width': 16,
    'num_blocks': 1,
    'warmup_updates': 1,
    'num_train_steps': K,
    'num_sample_steps': 4,
    'learning_rate': 0.01,
    'weight_decay': 0.0,
    'sampler': 'ddim',
    'objective': 'x0',
}
RNG = np.random.default_rng(0)
NET = jax.jit(mlp_denoiser.MLPDenoiser(16, 1).apply)


@functools.cache
def _make(**fields):
    """Without fields it is the agent that most tests share."""
    return diffusion_policy.make(diffusion_policy.Config(**CONFIG | fields), SPEC)


@functools.cache
def _start(agent):
    """Its first state, and its jitted update; the tests share both."""
    return jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)


def _batch():
    return Chunk(
        obs=RNG.normal(size=(B, TO, 3)).astype(np.float32),
        action=RNG.uniform(-1, 1, size=(B, TP, A)).astype(np.float32),
        mask=np.arange(TP) < 1 + np.arange(B)[:, None] % TP,
    )


def _wiggle(state):
    """Random weights in place of the initial ones, whose last layer is zero."""
    return state.replace(params=weights.random(state.params))


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
def test_the_loss_is_the_equation(name):
    """Noise, network and target by hand, over the steps that are not padding."""
    agent, batch, key = _make(objective=name), _batch(), jax.random.key(5)
    objective = objectives.make(name, num_train_steps=K)
    params = weights.acting(agent).params

    @jax.jit
    def loss(params):
        state = agent.init(jax.random.key(0)).replace(params=params)
        level_key, eps_key, _ = jax.random.split(key, 3)
        level, eps = objective.draw(level_key, B), jax.random.normal(eps_key, (B, TP, A))
        return agent.update(state, batch, key)[1]['mse'], level, eps

    mse, level, eps = jax.device_get(loss(params))
    signal, noise = (np.asarray(x)[:, None, None] for x in (level.signal, level.noise))
    x0, mask = batch.action, batch.mask
    x = signal * x0 + noise * eps
    scale = 1.0 / np.sqrt(noise**2 + 0.25) if name == 'edm' else 1.0
    output = NET(params['denoiser'], scale * x, level.k, batch.obs)
    target = {
        'eps': eps,
        'x0': x0,
        'v': signal * eps - noise * x0,
        'flow': x0 - eps,
        'edm': (x0 - x * 0.25 / (noise**2 + 0.25)) * np.sqrt(noise**2 + 0.25) / (0.5 * noise),
    }[name]
    error = (output - target) ** 2
    np.testing.assert_allclose(mse, error[mask].mean(), rtol=1e-3)


def test_the_condition_is_dropped_for_its_share_of_samples():
    """With all of it dropped, what is observed does not matter; without, it does."""
    batch = _batch()
    other = batch.replace(obs=batch.obs + np.float32(1.0))
    state, without = _start(_make())
    dropping = jax.jit(_make(condition_dropout=0.999999).update)
    for update, same in ((dropping, True), (without, False)):
        losses = [update(_wiggle(state), b, jax.random.key(1))[1]['mse'] for b in (batch, other)]
        assert (losses[0] == losses[1]) == same


def test_guidance_extrapolates_from_the_unconditional_prediction():
    """One DDIM step with x_0 as the target: the sample is the prediction itself."""
    fields = {'num_sample_steps': 1, 'clip': 100.0}
    obs, found = _batch().obs, {}
    for weight in (0.0, 1.0, 2.5):
        agent = _make(condition_dropout=0.1, guidance=weight, **fields)
        state = weights.acting(agent)
        found[weight] = jax.jit(acting.act_of(agent))(state, obs, jax.random.key(1))[0]
    np.testing.assert_allclose(found[2.5], found[0.0] + 2.5 * (found[1.0] - found[0.0]), atol=1e-5)
    assert np.abs(found[1.0] - found[0.0]).max() > 0.01


def test_padded_targets_do_not_count():
    """The untrained network says 0, so that the loss is the mean square of the real actions.

    Padded actions, noised, are still inputs: the chunk is denoised as a whole.
    """
    agent, batch = _make(), _batch()
    state, update = _start(agent)
    new, metrics = update(state, batch, jax.random.key(1))
    square = np.asarray(batch.action)[np.asarray(batch.mask)] ** 2
    np.testing.assert_allclose(metrics['mse'], square.mean(), rtol=1e-5)
    garbage = np.where(batch.mask[..., None], batch.action, np.float32(7.0))
    other, with_garbage = update(state, batch.replace(action=garbage), jax.random.key(1))
    assert with_garbage['mse'] == metrics['mse']
    # no gradient reaches the outputs for steps that are padding in every row
    nowhere = batch.replace(mask=batch.mask & (np.arange(TP) < 2))
    state, _ = update(update(state, nowhere, jax.random.key(2))[0], nowhere, jax.random.key(3))
    last = state.params['denoiser']['params']['ResidualMLP_0']['Dense_3']
    kernel, bias = (np.asarray(last[name]) for name in ('kernel', 'bias'))
    np.testing.assert_array_equal(bias.reshape(TP, A)[2:], 0.0)
    np.testing.assert_array_equal(kernel.reshape(-1, TP, A)[:, 2:], 0.0)
    assert np.abs(bias.reshape(TP, A)[:2]).min() > 0


def test_nothing_but_padding_moves_nothing():
    agent, batch = _make(), _batch()
    state, update = _start(agent)
    empty = batch.replace(mask=np.zeros_like(batch.mask))
    new = state
    for i in range(2):
        new, metrics = update(new, empty, jax.random.key(i))
        assert metrics['mse'] == 0.0
    jax.tree.map(np.testing.assert_array_equal, new.params, state.params)


def test_the_ema_averages_updated_weights_and_acts():
    agent, batch = _make(), _batch()
    state, update = _start(agent)
    first, _ = update(state, batch, jax.random.key(1))
    second, _ = update(first, batch, jax.random.key(2))
    first, second = jax.device_get((first, second))
    jax.tree.map(np.testing.assert_array_equal, first.target_params, first.params)
    weight = 2**-0.75
    jax.tree.map(
        lambda old, new, p: np.testing.assert_allclose(
            new, old + weight * (p - old), rtol=1e-5, atol=1e-7
        ),
        first.target_params,
        second.target_params,
        second.params,
    )
    act = jax.jit(acting.act_of(agent))
    action, _ = act(second, batch.obs, jax.random.key(2))
    without, _ = act(second.replace(params=state.params), batch.obs, jax.random.key(2))
    np.testing.assert_array_equal(action, without)
    other, _ = act(second.replace(target_params=state.params), batch.obs, jax.random.key(2))
    assert np.abs(other - action).max() > 1e-4


@pytest.mark.parametrize('sampler', registry.TABLES['samplers'])
def test_actions_are_clipped_samples(sampler):
    """Untrained eps = 0 makes x_0 = x_K / sqrt(alpha_bar), which is huge without the clip."""
    agent, obs = _make(sampler=sampler, objective='eps', clip=0.5), _batch().obs
    state, act = weights.acting(agent, std=0.0), jax.jit(acting.act_of(agent))
    action, _ = act(state, obs, jax.random.key(1))
    np.testing.assert_allclose(np.abs(action).max(), 0.5, atol=1e-5)
    other, _ = act(state, obs, jax.random.key(2))
    assert (action != other).any()  # another key, another sample


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'network': 'gru'}, r"agent.network: expected one of .*'unet1d'.*found 'gru'"),
        ({'objective': 'score'}, r"agent.objective: expected one of .*'eps'.*found 'score'"),
        ({'schedule': 'cosine'}, r"agent.schedule: .*'squared_cosine'.*found 'cosine'"),
        ({'sampler': 'plms'}, r"agent.sampler: .*'ddim'.*found 'plms'"),
        ({'sampler': 'ddim', 'num_sample_steps': K + 1}, rf'expected 1 to {K} .*found {K + 1}'),
        ({'sampler': 'midpoint', 'num_sample_steps': 3}, 'even number for midpoint, found 3'),
        ({'guidance': 2.0}, 'agent.guidance: expected 1.0 without condition_dropout, found 2.0'),
        ({'condition_dropout': 1.0}, 'agent.condition_dropout: .*found 1.0'),
        ({'sampler': 'ddpm', 'eta': 0.5}, "agent.eta: expected 0 for 'ddpm', found 0.5"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        _make(**fields)


def test_evaluations_of_a_plan_are_the_samplers_and_twice_as_many_with_guidance():
    def count(**fields):
        return diffusion_policy.num_evaluations(diffusion_policy.Config(**CONFIG | fields))

    assert count(sampler='ddim') == 4 and count(sampler='heun') == 7
    assert count(sampler='heun', guidance=2.0, condition_dropout=0.1) == 14
