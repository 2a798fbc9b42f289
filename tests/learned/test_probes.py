"""Small problems whose answers are known: what is learnt, not only that something is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxpolicy.agents import a2c, bc, diffusion_policy, ppo, ppo_recurrent, reinforce
from jaxpolicy.data import episodes, windows
from jaxpolicy.envs.wrap import time_limit, vectorize
from jaxpolicy.loops import evaluate, offline, on_policy
from jaxpolicy.nets import mlp
from jaxpolicy.types import Env, EnvState, Spec
from tests import acting
from tests.learned import probe_envs

GAMMA, SPEC, DISCRETE = probe_envs.GAMMA, probe_envs.SPEC, probe_envs.DISCRETE
SMALL = {'hidden': (32,), 'activation': 'tanh', 'gamma': GAMMA, 'learning_rate': 3e-3}
CONFIG = ppo.Config(num_minibatches=4, target_kl=0.0, entropy_cost=0.0, **SMALL)
ON_POLICY = {  # module, config, rollouts in a round of `_learn`
    'ppo': (ppo, CONFIG, 25),
    'a2c': (a2c, a2c.Config(entropy_cost=0.0, **SMALL), 250),
    'reinforce': (reinforce, reinforce.Config(num_baseline_steps=4, **SMALL), 250),
}
every_agent = pytest.mark.parametrize('name', ON_POLICY)
# One program for each agent. A2C and REINFORCE share their policies: each shows one kind of them.
SPECS = {'ppo': SPEC, 'a2c': DISCRETE, 'reinforce': SPEC}


def _agents(*names, spec):
    """Parametrises a test; agents that elsewhere act by another `spec` are another program."""
    slow = [pytest.param(n, marks=[pytest.mark.slow] * (SPECS[n] is not spec)) for n in names]
    return pytest.mark.parametrize('name', slow)


@functools.cache
def _program(name, spec):
    """(number of the probe, rounds, obs [5, 1]) -> (V [5], the policy's extras at obs)."""
    module, config, iterations = ON_POLICY[name]
    agent = module.make(config, spec)
    critic = mlp.MLP(config.hidden, 1, config.activation)

    def learn(number, num_rounds, obs):
        env = probe_envs.make(number, spec)
        loop = on_policy.make(env, agent, 32, 16, iterations, probe_envs.LIMIT)
        start = loop.init(jax.random.key(0))
        train = jax.lax.fori_loop(0, num_rounds, lambda _, s: loop.step(s, ())[0], start).train
        value = critic.apply(train.params['critic'], obs)
        return value[:, 0], acting.act_of(agent)(train, obs, jax.random.key(0))[1]

    return jax.jit(learn)


def _learn(name, probe, num_rounds, obs, spec=None):
    """Trains in the real loop; returns V(obs [n]), and the policy's extras at obs."""
    learn = _program(name, spec or SPECS[name])
    found = learn(probe_envs.NUMBER[probe], num_rounds, probe_envs.column(obs, 5))
    return jax.tree.map(lambda x: np.asarray(x)[: len(obs)], found)


@every_agent
def test_a_time_limit_is_not_the_end_of_the_world(name):
    """Reward 1 for ever, seen through episodes of 10 steps: V = 1 / (1 - gamma) = 10."""
    value, _ = _learn(name, 'for_ever', 4, [0.0])
    np.testing.assert_allclose(value, 1 / (1 - GAMMA), rtol=0.03)


@every_agent
def test_a_termination_is(name):
    """Reward 1 for five steps: V counts those that are left."""
    value, _ = _learn(name, 'five_steps', 4, [0.0, 0.2, 0.4, 0.6, 0.8])
    left = np.array([5, 4, 3, 2, 1])
    np.testing.assert_allclose(value, (1 - GAMMA**left) / (1 - GAMMA), atol=0.12)


@every_agent
def test_values_depend_on_what_is_seen(name):
    """One step; the reward is the observation."""
    value, _ = _learn(name, 'seen', 2, [1.0, -1.0])
    np.testing.assert_allclose(value, [1.0, -1.0], atol=0.05)


@every_agent
def test_later_rewards_are_discounted(name):
    """Two steps; only the second is rewarded."""
    value, _ = _learn(name, 'later', 2, [0.0, 1.0])
    np.testing.assert_allclose(value, [GAMMA, 1.0], atol=0.05)


@_agents('ppo', 'a2c', 'reinforce', spec=SPEC)
def test_the_policy_finds_the_best_action(name):
    """One step; the best action is 0.5 times what is seen, and V is what exploration costs."""
    value, extras = _learn(name, 'half', 4, [1.0, -1.0], SPEC)
    mean, std = extras['mean'][:, 0], np.exp(extras['log_std'][:, 0])
    np.testing.assert_allclose(mean, [0.5, -0.5], atol=0.07)
    assert (std < CONFIG.init_std).all()
    np.testing.assert_allclose(value, -(std**2), atol=0.03)


@_agents('a2c', 'reinforce', spec=DISCRETE)
def test_the_policy_finds_the_best_of_two_choices(name):
    """One step; right is the choice of the sign that is seen, and V its probability."""
    value, extras = _learn(name, 'right_choice', 1, [1.0, -1.0], DISCRETE)
    right = np.diagonal(special.softmax(extras['logits'], axis=-1)[:, ::-1])
    assert (right > 0.9).all()
    np.testing.assert_allclose(value, right, atol=0.03)


def _recall(delay: int) -> Env:
    """Shows a sign at first and rewards, `delay` steps later, an action of that sign.

    obs [the sign at the first step, else 0; 1 when it is asked for]; metric right.
    """
    spec = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), SPEC.action)

    def state(sign, time, right, key):
        obs = jnp.stack([jnp.where(time == 0, sign, 0.0), (time == delay).astype(jnp.float32)])
        over, no = time > delay, jnp.zeros((), bool)
        return EnvState(obs, obs, right, over, no, {'right': right}, key, (sign, time))

    def reset(key):
        key, sign_key = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(sign_key), 1.0, -1.0)
        return state(sign, jnp.zeros((), jnp.int32), jnp.zeros(()), key)

    def step(before, action):
        sign, time = before.sim
        right = (time == delay) & (action[0] * sign > 0.0)
        return state(sign, time + 1, right.astype(jnp.float32), before.key)

    return vectorize.vectorize(time_limit.time_limit(Env(reset, step, spec), 2 * delay))


def _forgetful(policy):
    """The policy, but each step is the first that it remembers."""
    return policy._replace(act=lambda carry, obs, key: policy.act(policy.init(obs), obs, key))


@pytest.mark.parametrize('cell', ['gru', pytest.param('lstm', marks=pytest.mark.slow)])
def test_what_is_out_of_sight_is_recalled_by_those_with_a_memory(cell):
    """Five steps after it was shown; with its memory lost it does no better than guessing."""
    env = _recall(delay=5)
    config = ppo_recurrent.Config(cell=cell, memory_size=32, **dataclasses.asdict(CONFIG))
    agent = ppo_recurrent.make(config, env.spec)
    loop = on_policy.make(env, agent, 64, 16, iterations_per_round=25, episode_steps=6)

    @jax.jit
    def right(key):
        state, _ = loop.step(loop.init(key), ())
        policy = agent.policy(state.train, deterministic=True)
        keys = jax.random.split(jax.random.key(1), 512)
        found = [
            evaluate.evaluate(env, p, keys, jax.random.key(2), 6)['right_final']
            for p in (policy, _forgetful(policy))
        ]
        return [jnp.mean(x) for x in found]

    remembering, forgetful = right(jax.random.key(0))
    assert 0.95 < remembering <= 1.0
    assert 0.4 < forgetful < 0.6


MODES, TP = 0.7, 2


def _imitate(agent, updates=300):
    """Trains on chunks of all +0.7 and all -0.7, both for everything seen; returns 256 chunks."""
    num_episodes = 128
    side = np.where(np.arange(num_episodes) % 2, MODES, -MODES)
    rng = np.random.default_rng(0)
    data = episodes.Episodes(
        obs=np.repeat(rng.uniform(-1, 1, size=num_episodes // 2), 2 * TP)[:, None].astype('f4'),
        action=np.repeat(side, TP)[:, None].astype(np.float32),
        episode_ends=TP * np.arange(1, num_episodes + 1),
        info={},
    )
    data = windows.make(data, 1, TP, TP)
    loop = offline.make(agent, num_episodes, epochs_per_round=updates)

    @jax.jit
    def learn(data, obs):
        state, _ = loop.step(loop.init(jax.random.key(0)), data)
        return acting.act_of(agent)(state.train, obs, jax.random.key(1))[0]

    obs = np.linspace(-1, 1, 256, dtype=np.float32)[:, None, None]
    return np.asarray(learn(data, obs))[..., 0]  # [256, Tp]


HORIZONS = {'obs_horizon': 1, 'pred_horizon': TP, 'action_horizon': TP, 'warmup_updates': 10}


def test_mse_averages_two_ways_of_doing_it():
    config = bc.Config(head='mse', width=32, num_blocks=1, learning_rate=3e-3, **HORIZONS)
    assert np.abs(_imitate(bc.make(config, SPEC))).max() < 0.15


@pytest.mark.parametrize('name', ['mixture', 'diffusion'])
def test_mixture_and_diffusion_keep_both_ways(name):
    if name == 'mixture':
        config = bc.Config(
            head='mixture', num_components=4, width=32, num_blocks=1, learning_rate=3e-3, **HORIZONS
        )
        agent = bc.make(config, SPEC)
    else:
        config = diffusion_policy.Config(
            network='mlp',
            width=32,
            num_blocks=1,
            num_train_steps=20,
            num_sample_steps=20,
            learning_rate=3e-3,
            **HORIZONS,
        )
        agent = diffusion_policy.make(config, SPEC)
    chunk = _imitate(agent)
    right, left = ((np.abs(chunk - mode) < 0.2).all(-1) for mode in (MODES, -MODES))
    assert (right | left).mean() > 0.95  # whole chunks of one kind
    assert 0.35 < right.mean() < 0.65
