import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.loops.dagger import gates
from jaxpolicy.loops.dagger import turns as explore
from jaxpolicy.types import Policy, memoryless
from tests.loops import point

NUM = 16


def _explore(gate, threshold, enabled=True):
    now = explore.Situation((), (), jnp.array([threshold]), jnp.array(enabled))
    keys = jax.random.split(jax.random.key(0), NUM)
    run = jax.jit(
        lambda: explore.explore(
            point.runaway(),
            point.env(),
            point.expert(),
            gate,
            point.HORIZONS,
            now,
            keys,
            jax.random.key(1),
        )
    )
    return jax.device_get(run())


def test_alone_the_learner_acts_from_its_chunks():
    blocks, steps = _explore(gates.expert(1), -1.0, enabled=False)
    assert not steps.intervention.any() and not blocks.control.any()
    np.testing.assert_allclose(steps.action[:, 0], 0.2)  # row To - 1 of the chunk
    np.testing.assert_allclose(steps.action[:, 1], 0.3)


def test_the_learner_acts_as_it_is_evaluated():
    plan = jnp.ones((NUM, 4, 1))
    agent = point.runaway()._replace(
        policy=lambda state, greedy: memoryless(lambda obs, key: (plan * (-1) ** greedy, {}))
    )
    keys = jax.random.split(jax.random.key(0), NUM)
    for greedy in (True, False):
        now = explore.Situation((), (), jnp.array([jnp.inf]), jnp.array(False), greedy)
        robots = (agent, point.env(), point.expert(), gates.expert(1))
        _, steps = jax.jit(lambda now=now, robots=robots: explore.explore(
            *robots, point.HORIZONS, now, keys, jax.random.key(1)))()  # fmt: skip
        assert (steps.action == (-1.0 if greedy else 1.0)).all()


def test_a_learner_that_remembers_is_refused():
    planner = Policy(lambda obs: jnp.zeros(len(obs)), point.runaway().policy(()).act)
    agent = point.runaway()._replace(policy=lambda *_: planner)
    now = explore.Situation((), (), jnp.array([jnp.inf]), jnp.array(False))
    keys = jax.random.split(jax.random.key(0), NUM)
    robots = (agent, point.env(), point.expert(), gates.expert(1))
    with pytest.raises(ValueError, match='loop dagger: expected a policy that remembers nothing'):
        explore.explore(*robots, point.HORIZONS, now, keys, jax.random.key(1))


def test_with_the_gate_open_the_expert_acts_and_succeeds():
    blocks, steps = _explore(gates.expert(1), -1.0)
    np.testing.assert_array_equal(blocks.control, blocks.reached)
    np.testing.assert_array_equal(steps.intervention, steps.running)
    expected = point.towards_zero(steps.obs)
    np.testing.assert_allclose(steps.action[steps.running], expected[steps.running], atol=1e-6)
    assert explore.succeeded(steps).all()
    lengths = steps.running.sum((0, 1))
    assert lengths.max() < 10  # an episode ends when it succeeds
    assert (blocks.expert_carry[1][blocks.reached[1]] == 2).all()  # it goes on, and does not begin


def test_the_expert_takes_over_only_above_the_threshold():
    blocks, steps = _explore(gates.expert(1), 0.9)
    distance = np.abs(0.2 - point.towards_zero(steps.obs[:, 0, :, 0]))
    np.testing.assert_allclose(blocks.scores[..., 0], distance, atol=1e-5)
    np.testing.assert_array_equal(blocks.control, (distance > 0.9) & blocks.reached)
    assert 0 < blocks.control.sum() < blocks.reached.sum()
    first = blocks.control[1:] & ~blocks.control[:-1]
    assert (blocks.expert_carry[1:][first] == 0).all()  # it begins anew


def test_labels_are_what_the_expert_would_do_from_there():
    blocks, _ = _explore(gates.expert(1), jnp.inf)
    eligible = blocks.reached & (np.arange(5)[:, None] < 2)
    num = int(eligible.sum()) + 3
    ask = jax.jit(
        lambda b: explore.ask(
            point.env(), point.expert(), b, eligible, num, point.HORIZONS, jax.random.key(2)
        )
    )
    chunk, valid = jax.device_get(ask(blocks))
    assert valid.tolist() == [True] * (num - 3) + [False] * 3
    assert not chunk.mask[~valid].any() and not chunk.mask[:, 0].any()
    starts = chunk.obs[valid][:, -1, 0]
    met = np.asarray(blocks.env_state.obs)[eligible][:, 0]
    np.testing.assert_allclose(np.sort(starts), np.sort(met), atol=1e-6)  # each once
    for x, actions, mask, obs in zip(
        starts, chunk.action[valid, :, 0], chunk.mask[valid], chunk.obs[valid], strict=True
    ):
        was = 0.0 if obs[0, 0] == obs[1, 0] else 0.3  # nothing yet, or the last executed action
        np.testing.assert_allclose(actions[0], was, atol=1e-6)
        ended = False
        for action, counts in zip(actions[1:], mask[1:], strict=True):
            assert counts == (not ended)
            if counts:
                np.testing.assert_allclose(action, point.towards_zero(x), atol=1e-5)
                x = x + point.STEP * action
            ended = ended or abs(x) < 0.05
            last = action
        assert action == last
