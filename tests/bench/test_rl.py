"""The benchmark on a task that compiles in no time: a point that should go to the origin."""

import dataclasses
import json
import math
import threading
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from experiments.bench import figures as bench_figures
from experiments.bench import floor as bench_floor
from experiments.bench import ours as bench_ours
from experiments.bench import race as bench_race
from experiments.bench import rl as bench_rl
from jaxpolicy import envs
from jaxpolicy.runs import build
from jaxpolicy.types import Env, EnvState, Spec

NUM_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Point:
    episode_steps: int = NUM_STEPS


def make_point(config):
    del config
    no, zero = jnp.zeros((), bool), jnp.zeros(())

    def reset(key):
        key, start_key = jax.random.split(key)
        start = jax.random.uniform(start_key, (3,), minval=-1.0)
        return EnvState(start, start, zero, no, no, {'near': zero}, key, start)

    def step(state, action):
        place = state.sim + 0.2 * jnp.clip(action, -1.0, 1.0)
        distance = jnp.linalg.norm(place)
        near = (distance < 0.5).astype(jnp.float32)
        return state.replace(
            obs=place,
            next_obs=place,
            reward=-distance,
            termination=no,
            truncation=no,
            metrics={'near': near},
            sim=place,
        )

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    return Env(reset, step, Spec(shape, shape))


@pytest.fixture
def config(monkeypatch):
    module = python_types.SimpleNamespace(Config=Point, make=make_point)
    monkeypatch.setitem(envs.ENVS, 'point', module)
    changes = {'num_envs': 32, 'rollout_length': 5, 'iterations_per_round': 2, 'num_minibatches': 4}
    config = bench_rl.make_config(None, 'point', changes | {'num_env_steps': 50 * 320})
    config.agent.hidden = (16, 8)
    return config


def test_learner_flops_by_hand(config):
    spec = build.make_env(config).spec
    actor, critic = [3 * 16, 16 * 8, 8 * 3], [3 * 16, 16 * 8, 8 * 1]
    steps = 32 * 5
    act, values = 2 * steps * sum(actor), 2 * (steps + 32) * sum(critic)
    backward = sum(actor) + sum(actor[1:]) + sum(critic) + sum(critic[1:])
    update = 4 * 2 * steps * (sum(actor) + sum(critic) + backward)
    assert bench_floor.learner_flops(config, spec) == act + values + update


def test_record_leaves_compilation_out_of_training_and_counts_all_epochs():
    record = bench_race.Record(None, 12.0, 0.0, [1.0, 2.0, 3.0, 9.0], reached=5)
    assert record.compile_s == 12.0 - 2 * 2.5  # the median epoch is 2.5 s
    assert record.train_s == 2 * 2.5 + 1.0 + 2.0 + 3.0
    assert math.isinf(bench_race.Record(None, 12.0, 0.0, [1.0]).train_s)


def test_race_takes_turns_and_ends_each_run_at_its_goal(config, monkeypatch):
    log = []

    def side(name, steps_to_goal):
        def start(config, seed):
            count = [0]

            def epoch():
                count[0] += 1
                log.append(name)
                return 1.0

            def act(policy, obs):  # stands still, or goes to the origin at once
                return jnp.where(policy >= steps_to_goal, -5.0 * obs, jnp.zeros_like(obs))

            def close():
                log.append(f'{name} closed')

            return bench_ours.Contender(epoch, lambda: jnp.asarray(count[0]), act, close)

        return python_types.SimpleNamespace(start=start)

    goal = bench_race.Goal('near_final', 0.9, num_episodes=8)
    sides = {'a': side('a', 4), 'b': side('b', 6)}
    records, readings = bench_race.race(config, sides, 0, 1, goal, {'clock': lambda: 7.0})
    assert log == [*'aabb', *'abab', *'bb', 'a closed', 'b closed']
    assert [records[name].reached for name in 'ab'] == [4, 6]
    assert readings == {'clock': [7.0]}


def test_measures_ours_alone(config):
    config.agent.learning_rate = 3e-3
    goal = bench_rl.parse_goal('return:-6.0')
    result = bench_figures.measure(config, bench_figures.Options(goal=goal, seeds=2, repeats=2))
    ours = result['ours']
    names = ('compile_s', 'raw_steps_per_s', 'train_steps_per_s', 'seconds_to_threshold')
    assert all(ours[name] > 0 for name in names)
    assert [result['peer'][name] for name in names] == [None] * 4
    assert [result['ratio'][name] for name in names] == [None] * 4
    assert ours['seconds_to_threshold'] > ours['train_seconds_to_threshold']
    assert ours['train_seconds_to_threshold'] == np.median(ours['train_seconds_by_seed'])
    assert ours['floor_s'] > ours['raw_s'] == pytest.approx(32 * 5 / ours['raw_steps_per_s'])
    assert ours['train_over_raw'] == pytest.approx(
        ours['train_steps_per_s'] / ours['raw_steps_per_s']
    )
    assert json.loads(json.dumps(result))['config']['env']['name'] == 'point'


def test_mistakes_name_the_flag():
    with pytest.raises(ValueError, match="--threshold: expected 'metric:value', found 'return'"):
        bench_rl.parse_goal('return')
    with pytest.raises(ValueError, match="--env: expected 'detour'"):
        bench_rl.make_config(base.on_policy('ppo', 'detour'), 'reach', {})


def test_brax_steps_our_task_and_cuts_its_episodes(config):
    pytest.importorskip('brax')
    from experiments.bench.peers import brax_ppo as bench_brax

    task, wrap, repeat = bench_brax._env(config)
    env = wrap(task, episode_length=NUM_STEPS, action_repeat=repeat)
    raw_key = jax.random.key_data(jax.random.key(3))
    state = jax.jit(env.reset)(raw_key[None])
    ours, make = make_point(None), jax.random.wrap_key_data
    expected = ours.reset(make(raw_key))
    np.testing.assert_array_equal(state.obs[0], expected.obs)
    step, first = jax.jit(env.step), state.obs
    for t in range(NUM_STEPS):
        action = jnp.full((1, 3), 0.1 * t - 0.5)
        state, expected = step(state, action), ours.step(expected, action[0])
        np.testing.assert_allclose(state.reward[0], expected.reward, rtol=1e-6)
    assert state.done[0] == 1 and state.info['truncation'][0] == 1
    np.testing.assert_array_equal(state.obs, first)


def test_brax_is_trained_in_turns_and_learns(config):
    pytest.importorskip('brax')
    config.agent.learning_rate = 3e-3
    before = threading.active_count()
    options = bench_figures.Options('brax', bench_rl.parse_goal('return:-6.0'), repeats=2)
    result = bench_figures.measure(config, options)
    assert threading.active_count() <= before + 1  # its thread has ended
    for name in ('compile_s', 'raw_steps_per_s', 'train_steps_per_s', 'seconds_to_threshold'):
        ours, peer = result['ours'][name], result['peer'][name]
        assert peer > 0
        assert result['ratio'][name] == pytest.approx(ours / peer)
    assert 'device_put_replicated' not in vars(jax)


def test_brax_has_our_networks_and_needs_whole_sequences(config):
    pytest.importorskip('brax')
    from experiments.bench.peers import brax_ppo as bench_brax

    net = bench_brax._networks(config)(3, 3, lambda x, _: x)

    def shapes(tree):
        return sorted(x.shape for x in jax.tree.leaves(tree))

    theirs = jax.eval_shape(net.policy_network.init, jax.random.key(0))
    params = jax.eval_shape(
        build.make_agent(config, build.make_env(config).spec).init, jax.random.key(0)
    ).params
    assert shapes(theirs) == shapes(params['actor'])
    theirs = jax.eval_shape(net.value_network.init, jax.random.key(0))
    assert shapes(theirs) == shapes(params['critic'])
    config.agent.num_minibatches = 5
    with pytest.raises(ValueError, match='found 32 and 5'):
        bench_brax._options(config, 0, 1, 1)
