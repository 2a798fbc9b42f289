import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxpolicy.agents import a2c, bc, ppo
from jaxpolicy.ops import distributions
from jaxpolicy.types import Chunk, Spec
from tests import acting

B, TO, TP, A = 6, 2, 4, 2
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
CONFIG = {
    'obs_horizon': TO,
    'pred_horizon': TP,
    'action_horizon': 2,
    'width': 16,
    'num_blocks': 1,
    'num_components': 3,
    'warmup_updates': 1,
}
RNG = np.random.default_rng(0)


@functools.cache
def _make(head, **fields):
    config = bc.Config(head=head, **CONFIG | fields)
    return config, bc.make(config, SPEC)


def _batch():
    return Chunk(
        obs=RNG.normal(size=(B, TO, 3)).astype(np.float32),
        action=RNG.uniform(-1, 1, size=(B, TP, A)).astype(np.float32),
        mask=np.arange(TP) < 1 + np.arange(B)[:, None] % TP,
    )


@functools.cache
def _start(head):
    """Its first state, and its jitted update and act; the tests share them."""
    _, agent = _make(head)
    act = jax.jit(acting.act_of(agent))  # `deterministic` is traced
    return jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update), act


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('head', bc.HEADS)
def test_padded_actions_do_not_count(head):
    (state, update, _), batch = _start(head), _batch()
    garbage = np.where(batch.mask[..., None], batch.action, np.float32(77.0))
    key = jax.random.key(1)
    one, other = (update(state, batch.replace(action=a), key) for a in (batch.action, garbage))
    _equal(one, other)  # parameters, the optimiser's averages of the gradients, metrics
    real = batch.action.copy()
    real[0, 0] += 0.1
    _, metrics = update(state, batch.replace(action=real), key)
    assert all(metrics[name] != one[1][name] for name in metrics)


@pytest.mark.parametrize('head', bc.HEADS)
def test_the_ema_averages_updated_weights_and_acts(head):
    (state, update, act), batch = _start(head), _batch()
    first, _ = update(state, batch, jax.random.key(1))
    second, _ = update(first, batch, jax.random.key(1))
    third, _ = update(second, batch, jax.random.key(1))
    first, second, third = jax.device_get((first, second, third))
    _equal(first.target_params, first.params)
    weight = {2: 2**-0.75, 3: 3**-0.75}
    for count, old, new in ((2, first, second), (3, second, third)):
        moved = jax.tree.map(
            lambda t, p: t + weight[count] * (p - t), old.target_params, new.params
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            new.target_params,
            moved,
        )
    gap = jax.tree.map(lambda t, p: np.abs(t - p).max(), third.target_params, third.params)
    assert max(jax.tree.leaves(gap)) > 1e-5
    action, _ = act(third, batch.obs, jax.random.key(2), False)
    without, _ = act(third.replace(params=state.params), batch.obs, jax.random.key(2), False)
    np.testing.assert_array_equal(action, without)
    other, _ = act(third.replace(target_params=state.params), batch.obs, jax.random.key(2), False)
    assert np.abs(other - action).max() > 1e-5


@pytest.mark.parametrize('head', bc.HEADS)
def test_deterministic_actions_ignore_the_key(head):
    (state, _, act), obs = _start(head), _batch().obs
    modes = [act(state, obs, jax.random.key(i), True)[0] for i in (0, 1)]
    samples = [act(state, obs, jax.random.key(i), False)[0] for i in (0, 1)]
    np.testing.assert_array_equal(*modes)
    assert (np.abs(samples[0] - samples[1]).max() > 0) == (head != 'mse')


def _mixture(num_components):
    shape = (B, num_components, TP * A)
    arrays = (RNG.normal(size=shape[:2]), RNG.normal(size=shape), RNG.uniform(-1, 0, size=shape))
    return [x.astype(np.float32) for x in arrays]


def test_mixture_nll_is_one_choice_for_the_whole_chunk():
    logits, mean, log_std = _mixture(3)
    batch = _batch()
    action, mask = np.asarray(batch.action), np.asarray(batch.mask)
    each = stats.norm(mean, np.exp(log_std)).logpdf(action.reshape(B, 1, -1))
    each = (each * np.repeat(mask, A, axis=-1)[:, None]).sum(-1)  # [B, M]
    log_prob = special.logsumexp(special.log_softmax(logits, axis=-1) + each, axis=-1)
    count = A * mask.sum()
    dist = distributions.Mixture(logits, mean, log_std)
    loss, metrics = jax.jit(bc.chunk_nll)(dist, batch.action, batch.mask)
    np.testing.assert_allclose(loss, -log_prob.sum() / count, rtol=1e-5)
    best = mean[np.arange(B), logits.argmax(-1)].reshape(B, TP, A)
    mse = (((best - action) ** 2).mean(-1) * mask).sum() / mask.sum()
    np.testing.assert_allclose(metrics['mse'], mse, rtol=1e-5)


def test_gaussian_nll_is_the_mean_over_real_coordinates():
    _, mean, log_std = _mixture(1)
    batch = _batch()
    each = stats.norm(mean[:, 0], np.exp(log_std[:, 0])).logpdf(batch.action.reshape(B, -1))
    real = np.repeat(np.asarray(batch.mask), A, axis=-1)
    dist = distributions.Gaussian(mean[:, 0], log_std[:, 0])
    loss, _ = jax.jit(bc.chunk_nll)(dist, batch.action, batch.mask)
    np.testing.assert_allclose(loss, -each[real].mean(), rtol=1e-5)


@pytest.mark.parametrize('head', ['gaussian', 'mixture'])
def test_deviations_have_a_floor(head):
    config, _ = _make(head, min_std=0.05)
    output = jnp.full((B, bc.output_dim(config, TP * A)), -100.0)
    dist = bc.chunk_distribution(config, output, TP * A)
    np.testing.assert_allclose(np.exp(dist.log_std), 0.05, rtol=1e-5)
    lead = (B,) if head == 'gaussian' else (B, 3)
    assert dist.mean.shape == dist.log_std.shape == (*lead, TP * A)


def test_outputs_are_cut_in_order():
    config, _ = _make('mixture')
    size = bc.output_dim(config, 8)
    assert size == 3 * 17 and bc.output_dim(_make('gaussian')[0], 8) == 16
    dist = bc.chunk_distribution(config, jnp.arange(float(size))[None], 8)
    np.testing.assert_array_equal(dist.logits[0], [0, 1, 2])
    np.testing.assert_array_equal(dist.mean[0, 1], np.arange(3 + 16, 3 + 24))


M = 3  # choices
DISCRETE = SPEC._replace(action=jax.ShapeDtypeStruct((M,), jnp.int8))
CHOICES = {**CONFIG, 'head': 'categorical', 'learning_rate': 0.01}


def _choices():
    batch = _batch()
    action = np.eye(M, dtype=np.int8)[np.random.default_rng(5).integers(M, size=(B, TP))]
    return batch.replace(action=action)


def test_the_cross_entropy_of_choices_is_the_mean_over_real_steps():
    batch, logits = _choices(), RNG.normal(size=(B, TP, M)).astype(np.float32)
    each = (special.log_softmax(logits, axis=-1) * batch.action).sum(-1)[batch.mask]
    loss, metrics = bc.chunk_nll(distributions.Categorical(logits), batch.action, batch.mask)
    np.testing.assert_allclose(loss, -each.mean(), rtol=1e-5)
    right = (logits.argmax(-1) == batch.action.argmax(-1))[batch.mask]
    assert 0.0 < right.mean() < 1.0
    np.testing.assert_allclose(metrics['accuracy'], right.mean(), rtol=1e-5)


def test_choices_are_learnt_drawn_and_scored_step_by_step():
    agent, batch = bc.make(bc.Config(**CHOICES), DISCRETE), _choices()
    act = jax.jit(acting.act_of(agent))
    score = jax.jit(lambda state, chunk: agent.surprise(state, chunk, jax.random.key(0)))

    @jax.jit
    def learn(state, batch):
        def step(state, _):
            return agent.update(state, batch, jax.random.key(0))

        return jax.lax.scan(step, state, length=200)

    start = jax.jit(agent.init)(jax.random.key(0))
    wrong = batch.replace(action=np.roll(batch.action, 1, -1))
    other = np.where(batch.mask[..., None], batch.action, wrong.action)
    trained, metrics = learn(start, batch)
    _equal(trained, learn(start, batch.replace(action=other))[0])  # padded choices do not count
    mode, _ = act(trained, batch.obs, jax.random.key(1), True)
    assert mode.dtype == jnp.int8 and mode.shape == (B, TP, M)
    np.testing.assert_array_equal(mode[batch.mask], batch.action[batch.mask])
    low, high = score(trained, batch), score(trained, wrong)
    assert low.shape == (B,) and (low < 0.3).all() and (high > 2.0).all()
    one = np.eye(B)[0][:, None] * batch.mask > 0  # the first row alone counts
    _, alone = learn(start, batch.replace(mask=one))
    np.testing.assert_allclose(score(start, batch)[0], alone['nll'][0], rtol=1e-5)
    # Samples follow the probabilities that the scores are of.
    drawn = [act(start, batch.obs, jax.random.key(i), False)[0] for i in range(600)]
    share = (np.stack(drawn) * batch.action).sum(-1).mean(0)[:, 0]  # of the first step, [B]
    first = batch.replace(mask=np.broadcast_to(np.arange(TP) == 0, (B, TP)))
    np.testing.assert_allclose(share, np.exp(-score(start, first)), atol=0.08)


def test_heads_are_for_one_kind_of_actions():
    with pytest.raises(ValueError, match=r"head: expected one of .*categ.* discrete.* 'mse'"):
        bc.make(bc.Config(**CONFIG), DISCRETE)
    with pytest.raises(ValueError, match=r"head: .*'mixture'.* continuous .*'categorical'"):
        bc.make(bc.Config(**CHOICES), SPEC)


def test_a_plain_mlp_has_no_other_heads():
    with pytest.raises(ValueError, match="agent.head: expected 'gaussian' or 'categorical' with"):
        bc.make(bc.Config(hidden=(8,)), SPEC)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"agent.head: expected one of .*'mixture'.*found 'mix'"):
        bc.make(bc.Config(head='mix'), SPEC)
    _, agent = _make('mse')
    state, batch = jax.eval_shape(agent.init, jax.random.key(0)), _batch()
    with pytest.raises(AssertionError):
        short = batch.replace(action=batch.action[:, 1:], mask=batch.mask[:, 1:])
        jax.eval_shape(agent.update, state, short, jax.random.key(0))


@pytest.mark.parametrize(
    ('head', 'action', 'other'),
    [('gaussian', SPEC.action, ppo), ('categorical', jax.ShapeDtypeStruct((2,), jnp.int8), a2c)],
)
def test_a_plain_mlp_is_the_actor_that_others_can_begin_with(head, action, other):
    spec = Spec(SPEC.obs, action)
    one = dict.fromkeys(('obs_horizon', 'pred_horizon', 'action_horizon'), 1)
    agent = bc.make(
        bc.Config(head=head, hidden=(8, 8), warmup_updates=0, learning_rate=0.01, **one), spec
    )
    theirs = other.make(other.Config(hidden=(8, 8)), spec)
    ours, wanted = (jax.eval_shape(x.init, jax.random.key(0)).params for x in (agent, theirs))
    assert ours['actor'] == wanted['actor'] and list(ours) == ['actor']
    obs = jax.random.normal(jax.random.key(1), (16, 1, 3))
    if head == 'gaussian':
        taught = jnp.full((16, 1, A), 0.5)
    else:
        taught = jnp.tile(jnp.asarray([0, 1], jnp.int8), (16, 1, 1))
    batch = Chunk(obs, taught, jnp.ones((16, 1), bool))

    @jax.jit
    def learn(key):
        step = lambda state, key: agent.update(state, batch, key)  # noqa: E731
        state, metrics = jax.lax.scan(step, agent.init(key), jax.random.split(key, 300))
        policy = agent.policy(state, True)
        return policy.act(policy.init(obs), obs, key)[1], metrics['nll']

    action, nll = learn(jax.random.key(2))
    np.testing.assert_allclose(action, taught, atol=0.15)
    assert nll[-1] < nll[0] - 0.2
