"""The benchmark of training on a point that should go to the origin."""

import json
import math
import threading
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import figures, floor, ours, race, replay, rl
from jaxpolicy import registry, types
from jaxpolicy.runs import environment, learner, recipe
from tests.bench import point


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(registry.TABLES['envs'], 'point', 'tests.bench.point')
    changes = {'num_envs': 32, 'rollout_length': 5, 'iterations_per_round': 2, 'num_minibatches': 4}
    config = rl.make_config(None, 'point', changes | {'num_env_steps': 50 * 320})
    config.agent.hidden, config.agent.learning_rate = (16, 8), 3e-3
    return config


def test_learner_flops_by_hand(config):
    spec = environment.make_env(config).spec
    actor, critic = [3 * 16, 16 * 8, 8 * 3], [3 * 16, 16 * 8, 8 * 1]
    steps = 32 * 5
    act, values = 2 * steps * sum(actor), 2 * (steps + 32) * sum(critic)
    backward = sum(actor) + sum(actor[1:]) + sum(critic) + sum(critic[1:])
    update = 4 * 2 * steps * (sum(actor) + sum(critic) + backward)
    assert floor.learner_flops(config, spec) == act + values + update


def test_record_leaves_compilation_out_of_training_and_counts_all_rounds():
    record = race.Record(None, 12.0, 0.0, [1.0, 2.0, 3.0, 9.0], reached=5)
    assert record.compile_s == 12.0 - 2 * 2.5  # the median round is 2.5 s
    assert record.train_s == 2 * 2.5 + 1.0 + 2.0 + 3.0
    assert math.isinf(race.Record(None, 12.0, 0.0, [1.0]).train_s)


def test_figures_of_a_side_are_medians_over_its_runs():
    runs = [
        race.Record(None, 12.0, 7.0, [1.0, 2.0, 3.0, 9.0], reached=5),
        race.Record(None, 14.0, 8.0, [2.0, 2.0, 2.0, 2.0], reached=2),
    ]
    assert figures.of_side(100, runs, [0.5, 1.0, 9.0]) == {
        'compile_s': (12.0 - 2 * 2.5 + 14.0 - 2 * 2.0) / 2,
        'raw_steps_per_s': 100.0,
        'train_steps_per_s': 50.0,  # the median round is 2 s
        'train_over_raw': 0.5,
        'peak_memory_mb': 7.0,
        'seconds_to_threshold': ((12.0 - 2 * 2.5 + 11.0) + 14.0) / 2,
        'train_seconds_to_threshold': (11.0 + 4.0) / 2,
        'train_seconds_by_seed': [11.0, 4.0],
    }


def _contender(log, name, rounds_to_goal):
    """A run whose policy stands still until it goes to the origin at once."""
    count = [0]

    def one_round():
        count[0] += 1
        log.append(name)
        return 1.0

    def policy_of(weights):
        def act(carry, obs, key):
            goes = weights >= rounds_to_goal
            return carry, jnp.where(goes, -5.0 * obs, jnp.zeros_like(obs)), {}

        return types.Policy(lambda obs: (), act)

    def close():
        log.append(f'{name} closed')

    return ours.Contender(one_round, lambda: jnp.asarray(count[0]), policy_of, close)


def test_race_takes_turns_and_ends_each_run_at_its_goal(config):
    log = []

    def side(name, rounds_to_goal):
        return python_types.SimpleNamespace(start=lambda *_: _contender(log, name, rounds_to_goal))

    goal = race.Goal('near_final', 0.9, num_episodes=8)
    sides = {'a': side('a', 4), 'b': side('b', 6)}
    records, readings = race.race(config, sides, 0, 1, goal, {'clock': lambda: 7.0})
    assert log == [*'aabb', *'abab', *'bb', 'a closed', 'b closed']
    assert [records[name].reached for name in 'ab'] == [4, 6]
    assert readings == {'clock': [7.0]}


def test_measures_ours_alone(config):
    goal, config.agent.hidden = rl.parse_goal('return:-6.0'), (16,)
    result = figures.measure(config, figures.Options(goal=goal, repeats=2))
    found = result['ours']
    names = ('compile_s', 'raw_steps_per_s', 'train_steps_per_s', 'seconds_to_threshold')
    assert all(found[name] > 0 for name in names)
    assert [result['peer'][name] for name in names] == [None] * 4
    assert [result['ratio'][name] for name in names] == [None] * 4
    assert found['seconds_to_threshold'] > found['train_seconds_to_threshold']
    assert [found['train_seconds_to_threshold']] == found['train_seconds_by_seed']
    assert found['floor_s'] > found['raw_s'] == pytest.approx(32 * 5 / found['raw_steps_per_s'])
    assert found['train_over_raw'] == pytest.approx(
        found['train_steps_per_s'] / found['raw_steps_per_s']
    )
    assert json.loads(json.dumps(result))['config']['env']['name'] == 'point'


def test_mistakes_name_the_flag():
    with pytest.raises(ValueError, match="--threshold: expected 'metric:value', found 'return'"):
        rl.parse_goal('return')
    with pytest.raises(ValueError, match="--env: expected 'detour'"):
        rl.make_config(recipe.on_policy('ppo', 'detour'), 'reach', {})


def test_an_unknown_metric_or_peer_is_named(config):
    goal = figures.Options(goal=rl.parse_goal('far_final:0.5'), repeats=1)
    with pytest.raises(ValueError, match="--threshold: expected one of .*'near_final'.*found 'far"):
        figures.measure(config, goal)
    with pytest.raises(ValueError, match=r"--peer: expected one of \['brax'\], found 'sb3'"):
        figures.measure(config, figures.Options(peer='sb3'))
    with pytest.raises(ValueError, match=r"--peer: expected one of \['sb3'\], found 'brax'"):
        replay.measure(config, figures.Options(peer='brax'))


@pytest.fixture
def replayed(monkeypatch):
    monkeypatch.setitem(registry.TABLES['envs'], 'point', 'tests.bench.point')
    config = recipe.off_policy('td3', 'point')
    config.agent.hidden = (8,)
    config.loop.update(num_envs=4, rollout_length=2, num_minibatches=2, batch_size=8)
    config.loop.update(iterations_per_round=2, buffer_size=128, learning_starts=16)
    config.loop.update(num_env_steps=16 + 3 * 16, pool_size=4)
    return config


@pytest.mark.slow
def test_replay_has_its_parts_beside_a_peer_of_as_many_steps(replayed, monkeypatch):
    asked = []

    def train(config, num_env_steps, seed, num_episodes):
        asked.append((num_env_steps, seed))
        return 2.0 + seed, -3.0 - seed

    peer = python_types.SimpleNamespace(train=train, DIFFERENCES=('it is a fake',))
    monkeypatch.setattr(replay.peers, 'load', lambda name, known: peer)
    monkeypatch.setattr(replay.ours, 'start', lambda config, seed: _contender([], 'ours', 1))
    result = replay.measure(replayed, figures.Options(peer='sb3', seeds=2, repeats=2))
    found = result['ours']
    names = ('train_steps_per_s', 'raw_steps_per_s', 'train_updates_per_s', 'raw_updates_per_s')
    assert all(found[name] > 0 for name in names)
    assert found['train_steps_per_s'] == pytest.approx(16 / 4 * found['train_updates_per_s'])
    assert found['train_steps_per_s'] == 16.0  # a round of the run above takes 1 s
    assert found['of_slower_part'] < found['of_both_parts']
    assert asked == [(64, 0), (64, 1)]
    assert result['peer']['whole_s_per_seed'] == 2.5 and result['peer']['return'] == -3.5
    assert found['return_by_seed'] and len(found['return_by_seed']) == 2
    ours_s = found['whole_s_per_seed']
    assert result['ratio']['whole_s_per_seed'] == pytest.approx(ours_s / 2.5)
    assert result['not_equal'] == ('it is a fake',)


def test_replay_alone_trains_for_no_peer(replayed, monkeypatch):
    monkeypatch.setattr(replay, 'raw', lambda config: lambda: 1.0)
    monkeypatch.setattr(replay, 'update', lambda config: lambda: 2.0)
    monkeypatch.setattr(replay.ours, 'start', lambda config, seed: _contender([], 'ours', 1))
    result = replay.measure(replayed, figures.Options(repeats=1))
    assert result['ours']['of_slower_part'] == 2.0 and result['ours']['of_both_parts'] == 3.0
    assert 'whole_s_per_seed' not in result['ours']
    assert result['peer'] == {} == result['ratio'] and result['not_equal'] == ()


def test_brax_steps_our_task_and_cuts_its_episodes(config):
    pytest.importorskip('brax')
    from experiments.bench.peers import brax_ppo

    task, wrap, repeat = brax_ppo._env(config)
    env = wrap(task, episode_length=point.NUM_STEPS, action_repeat=repeat)
    raw_key = jax.random.key_data(jax.random.key(3))
    state = jax.jit(env.reset)(raw_key[None])
    plain = point.make(point.Config())
    expected = plain.reset(jax.random.wrap_key_data(raw_key))
    np.testing.assert_array_equal(state.obs[0], expected.obs)
    step, first = jax.jit(env.step), state.obs
    for t in range(point.NUM_STEPS):
        action = jnp.full((1, 3), 0.1 * t - 0.5)
        state, expected = step(state, action), plain.step(expected, action[0])
        np.testing.assert_allclose(state.reward[0], expected.reward, rtol=1e-6)
    assert state.done[0] == 1 and state.info['truncation'][0] == 1
    np.testing.assert_array_equal(state.obs, first)


def test_brax_is_trained_in_turns_and_learns(config, monkeypatch):
    """Beside a run that has learnt its task at once, as ours was measured above."""
    pytest.importorskip('brax')
    monkeypatch.setattr(ours, 'raw', lambda config: lambda: 0.5)
    monkeypatch.setattr(ours, 'update', lambda config: lambda: 0.25)
    monkeypatch.setattr(ours, 'start', lambda config, seed: _contender([], 'ours', 1))
    monkeypatch.setattr(floor, 'clocks', lambda config: lambda: floor.Rates(1e9, 1e8))
    config.agent.hidden, before = (16,), threading.active_count()
    options = figures.Options('brax', rl.parse_goal('return:-6.0'), repeats=2)
    result = figures.measure(config, options)
    assert threading.active_count() <= before + 1  # its thread has ended
    assert result['ours']['train_steps_per_s'] == 320.0
    for name in ('compile_s', 'raw_steps_per_s', 'train_steps_per_s', 'seconds_to_threshold'):
        mine, theirs = result['ours'][name], result['peer'][name]
        assert theirs > 0
        assert result['ratio'][name] == pytest.approx(mine / theirs)
    assert 'device_put_replicated' not in vars(jax)


def test_brax_has_our_networks_and_needs_whole_sequences(config):
    pytest.importorskip('brax')
    from experiments.bench.peers import brax_ppo

    net = brax_ppo._networks(config)(3, 3, lambda x, _: x)

    def shapes(tree):
        return sorted(x.shape for x in jax.tree.leaves(tree))

    theirs = jax.eval_shape(net.policy_network.init, jax.random.key(0))
    params = jax.eval_shape(
        learner.make_agent(config, environment.make_env(config).spec).init, jax.random.key(0)
    ).params
    assert shapes(theirs) == shapes(params['actor'])
    theirs = jax.eval_shape(net.value_network.init, jax.random.key(0))
    assert shapes(theirs) == shapes(params['critic'])
    config.agent.num_minibatches = 5
    with pytest.raises(ValueError, match='found 32 and 5'):
        brax_ppo._options(config, 0, 1, 1)
