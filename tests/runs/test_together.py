"""Settings that share a program: each is the run that it would be alone."""

import json

import jax
import numpy as np
import pytest

from configs.smoke import bc, ppo, sac
from jaxpolicy.io import metrics, workdir
from jaxpolicy.runs import kinds, launch, saved, together
from jaxpolicy.runs import recipe as recipe_lib

BOTH = launch.Options(num_seeds=2, num_devices=1)
TIMES = ('time/train_s', 'time/compile_s', 'time/eval_s')


def vary(config, **agent):
    """Copies of a config, in which fields of the agent have these values one after the other."""
    found = []
    for values in zip(*agent.values(), strict=True):
        mine = config.copy_and_resolve_references()
        for name, value in zip(agent, values, strict=True):
            mine.agent[name] = value
        found.append(mine.lock())
    return found


def cloning(path):
    config = recipe_lib.offline('bc', 'pendulum', 'episodes', str(path))
    config.agent.width, config.agent.num_blocks, config.agent.warmup_updates = 8, 1, 2
    config.normalize.action = 'min_max'
    config = bc.shrink(config)
    config.loop.num_epochs = 2
    return config


def learning(num_env_steps=96):
    config = ppo.get_config()
    config.loop.num_env_steps = num_env_steps
    config.checkpoint.every = config.eval.every = 1
    return config


def assert_same(ours, theirs):
    """Two workdirs hold the same run, but for times and rounding."""
    rows = metrics.read(ours), metrics.read(theirs)
    assert len(rows[0]) == len(rows[1]) > 0
    for mine, alone in zip(*rows, strict=True):
        assert mine.keys() == alone.keys()
        for name in mine.keys() - set(TIMES):
            np.testing.assert_allclose(mine[name], alone[name], rtol=2e-3, atol=1e-5, err_msg=name)
    a, b = (saved.open_run(path, 'latest') for path in (ours, theirs))
    assert a.config.to_dict() == b.config.to_dict() and a.step == b.step
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-5)  # noqa: E731
    jax.tree.map(close, a.train, b.train)
    assert json.loads((ours / 'spec.json').read_text()) == json.loads(
        (theirs / 'spec.json').read_text()
    )


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """Two settings of PPO, two seeds each, trained together for three rounds."""
    places = [tmp_path_factory.mktemp('together') / str(i) for i in range(2)]
    assert launch.train_settings(list(zip(ppos(96), places, strict=True)), BOTH)
    return places


def ppos(num_env_steps):
    return vary(learning(num_env_steps), learning_rate=(1e-3, 5e-2), clip=(0.2, 0.05))


def test_settings_in_one_program_are_the_runs_that_they_are_alone(both, tmp_path):
    assert launch.train(ppos(96)[1], tmp_path, BOTH)
    assert_same(both[1], tmp_path)
    first, second = (saved.open_run(path, 'latest').train.params for path in both)
    assert not np.allclose(*(jax.tree.leaves(x)[0] for x in (first, second)))


def test_settings_that_learn_from_files_share_a_program_too(tmp_path, demos):
    configs = vary(cloning(demos), learning_rate=(1e-3, 5e-2))
    places = [tmp_path / str(i) for i in range(2)]
    one = launch.Options(num_devices=1)
    assert launch.train_settings(list(zip(configs, places, strict=True)), one)
    assert launch.train(configs[1], tmp_path / 'alone', one)
    assert_same(places[1], tmp_path / 'alone')


def test_a_setting_goes_on_alone_and_not_with_one_at_another_round(both, tmp_path):
    places = [tmp_path / str(i) for i in range(2)]
    assert launch.train_settings(list(zip(ppos(32), places, strict=True)), BOTH)
    assert launch.train(ppos(96)[0], places[0], BOTH)
    assert_same(places[0], both[0])
    with pytest.raises(ValueError, match='trained up to one round'):
        launch.train_settings(list(zip(ppos(96), places, strict=True)), BOTH)


@pytest.mark.slow
def test_settings_that_were_stopped_go_on_together(both, tmp_path):
    places = [tmp_path / str(i) for i in range(2)]
    for steps in (32, 96):
        assert launch.train_settings(list(zip(ppos(steps), places, strict=True)), BOTH)
    for ours, theirs in zip(places, both, strict=True):
        assert_same(ours, theirs)


def test_what_decides_what_is_computed_is_found_by_tracing(demos):
    several = np.asarray([0.1, 0.2], np.float32)

    def fixed(config, *names):
        run = kinds.make_run(config)
        return together.fixed(run, dict.fromkeys(names, several), 0, 1)

    assert fixed(learning(), 'learning_rate', 'gamma', 'target_kl') == ['target_kl']
    assert fixed(cloning(demos), 'learning_rate', 'ema_power') == []
    assert fixed(sac.get_config(), 'learning_rate', 'gamma', 'tau') == []


def test_numbers_of_the_agent_alone_may_differ():
    configs = vary(learning(), learning_rate=(1e-3, 5e-2), num_epochs=(1, 2))
    with pytest.raises(ValueError, match='config.agent.num_epochs: expected the same'):
        together.numbers(configs)
    found = together.numbers(vary(learning(), clip=(0.2, 0.1), gamma=(0.9, 0.9)))
    assert list(found) == ['clip'] and found['clip'].dtype == np.float32
    same = [workdir.to_json(config) for config in vary(learning(), clip=(0.2, 0.1))]
    assert same[0] != same[1]
