"""BC learns to balance the cart-pole from demonstrations of a linear rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpolicy
from jaxpolicy.loops import collect, evaluate
from jaxpolicy.runs import demonstrators, environment, learner
from jaxpolicy.types import memoryless

STEPS, GAINS = 500, np.array([0.1, 0.3, 1.0, 0.5], np.float32)


def rule():
    """Pushes to where the pole falls, and back to the middle."""

    def act(obs, key):
        del key
        right = (obs @ GAINS > 0).astype(int)
        return jax.nn.one_hot(right, 2, dtype=jnp.int8), {}

    return memoryless(act)


@pytest.mark.slow
def test_choices_are_cloned():
    env = environment.make_env(demonstrators.world('cartpole', [], ('env',)))
    teacher = collect.Demonstrator(env, STEPS, lambda weights: rule(), (), {
        'env': 'cartpole', 'source': 'a rule',
    })  # fmt: skip
    episodes, _, tried = collect.collect(teacher, 20, seed=0)
    assert collect.summary(tried) == (1.0, STEPS)
    trained = jaxpolicy.fit(
        'bc', episodes, head='categorical', obs_horizon=1, pred_horizon=4, action_horizon=1,
        width=64, num_blocks=1, num_epochs=10, learning_rate=1e-3,
    )  # fmt: skip
    agent = learner.make_agent(trained.config, trained.spec)
    policy = learner.make_policy(trained.config, agent)(trained.state.train, True)
    keys = jax.random.split(jax.random.key(1), 64)
    found = jax.jit(lambda: evaluate.evaluate(env, policy, keys, jax.random.key(2), STEPS))()
    assert found['return'].mean() > 450.0
