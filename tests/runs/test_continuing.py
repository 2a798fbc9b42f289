"""Runs that go on: longer, with other evaluations, from another run's weights, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import ppo
from jaxpolicy import train_state, types
from jaxpolicy.io import checkpoint, metrics, workdir
from jaxpolicy.runs import continuing, execution, kinds, launch, program, rounds, saved

ALONE = launch.Options(num_devices=1)


def recipe(num_env_steps=64, **changes):
    config = ppo.get_config()
    config.loop.num_env_steps = num_env_steps
    for key, value in changes.items():
        group, name = key.split('__')
        config[group][name] = value
    return config.lock()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of two rounds, and the record of it."""
    directory = tmp_path_factory.mktemp('ppo') / 'run'
    assert launch.train(recipe(), directory, ALONE)
    return directory


def test_a_longer_run_is_the_run_that_was_longer_from_the_start(run, tmp_path, capsys):
    assert launch.train(recipe(128), tmp_path / 'longer', ALONE)
    capsys.readouterr()
    changes = {'eval__num_episodes': 3, 'checkpoint__keep_last': 1}
    assert launch.train(recipe(128, **changes), run, ALONE)
    said = capsys.readouterr().err
    assert 'loop.num_env_steps: 64 -> 128' in said and 'eval.num_episodes: 2 -> 3' in said
    assert 'from here on where it would be in a run of the new length' in said
    ours, theirs = (saved.open_run(path, 'latest') for path in (run, tmp_path / 'longer'))
    assert ours.step == theirs.step == 4
    jax.tree.map(np.testing.assert_array_equal, ours.train, theirs.train)
    with checkpoint.open_manager(run / 'checkpoints', read_only=True) as manager:
        assert manager.metrics(4)[checkpoint.SCORED_BY] == continuing.scored_by(recipe(**changes))
    record = workdir.load_record(run)
    assert record['config']['loop']['num_env_steps'] == 128
    assert len(record['continued']) == 1 and len(record['continued'][0]['changes']) == 3
    assert launch.train(recipe(128, **changes), run, ALONE)  # nothing is left to do or to say
    assert 'continuing with' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (recipe(32), 'loop.num_env_steps: '),
        (recipe(999, agent__learning_rate=1e-5), 'agent.learning_rate: '),
        (recipe(999, eval__score='shine'), "config.eval.score: expected one of.*found 'shine'"),
        (recipe(999, eval__metrics=('shine',)), "config.eval.metrics: expected .*found 'shine'"),
    ],
)
def test_a_change_that_is_refused_leaves_no_trace(run, config, message):
    before = (run / workdir.CONFIG_FILE).read_bytes()
    with pytest.raises(ValueError, match=message):
        launch.train(config, run, ALONE)
    assert (run / workdir.CONFIG_FILE).read_bytes() == before


def test_a_metric_that_does_not_exist_is_named_before_the_first_update(tmp_path):
    with pytest.raises(ValueError, match="config.eval.score: expected .*found 'shine'"):
        launch.train(recipe(eval__score='shine'), tmp_path, ALONE)
    assert metrics.read(tmp_path) == [] and checkpoint.is_empty(tmp_path / 'checkpoints')
    assert launch.train(recipe(32), tmp_path, ALONE)  # the corrected command is not locked out


def test_a_run_begins_with_the_weights_of_another(run, tmp_path, capsys):
    config = recipe(32, begin__workdir=str(run), begin__checkpoint='latest')
    made, other = kinds.make_run(config), saved.open_run(run, 'latest')
    assert made.begin
    state = jax.eval_shape(made.loop.init, jax.random.key(1))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.replace(key=(), env=()))
    begun = made.begin(1)(state).train
    jax.tree.map(np.testing.assert_array_equal, begun.params, other.train.params)
    jax.tree.map(np.testing.assert_array_equal, begun.stats, other.train.stats)
    assert not any(np.any(x) for x in jax.tree.leaves((begun.opt_state, begun.step)))
    said = capsys.readouterr().err
    assert 'the networks actor, critic, and the normalisers obs are taken' in said
    several = jax.tree.map(lambda x: jnp.stack([x] * 2), state)
    for x, y in zip(
        jax.tree.leaves(made.begin(2)(several).train.params),
        jax.tree.leaves(other.train.params),
        strict=True,
    ):
        np.testing.assert_array_equal(x, np.stack([y, y]))
    for changes, message in (
        ({'agent__hidden': (4,)}, r"network like one of this 'ppo' \(actor: 3x4 4x1"),
        ({'agent__activation': 'relu'}, "config.agent.activation: expected 'elu' as in the run"),
        ({'normalize__obs': 'none'}, "config.normalize.obs: expected 'running' as in the run"),
    ):
        wrong = recipe(32, begin__workdir=str(run), **changes)
        with pytest.raises(ValueError, match=message):
            launch.train(wrong, tmp_path / 'wrong', ALONE)


class Breaks:
    """A run of five rounds with two updates each; a seed's parameters break in its own round."""

    def __init__(self, breaks_in):
        def init(key):
            which = jax.random.randint(key, (), 0, 1 << 30)
            return types.LoopState(
                train_state.create({'net': jnp.zeros(2)}, {}), (), jax.random.key_data(key), which
            )

        def step(state, data):
            del data
            train = state.train.replace(step=state.train.step + 2)
            broken = train.step >= 2 * jnp.asarray(breaks_in)[state.key[1].astype(int)]
            params = {'net': state.train.params['net'] + jnp.where(broken, jnp.nan, 1.0)}
            train = train.replace(params=params)
            return state.replace(train=train), {'updates': 2, 'env_steps': 0, 'loss': 1.0}

        self.run = kinds.Run(types.Loop(init, step), (), 5, types.Spec((), ()))

    def train(self, directory, num_seeds):
        config = recipe(eval__every=0, checkpoint__every=1)
        made = program.make(self.run.loop, 0, num_seeds)
        with (
            checkpoint.open_manager(directory / 'checkpoints') as manager,
            launch.StopRequest() as request,
        ):
            writer = metrics.open_writer(directory, tensorboard=False)
            place = rounds.Place(config, directory, manager, writer)
            return execution.Trainer([place], self.run, None, made).run(request)


def test_a_run_whose_numbers_break_stops_and_keeps_what_was_good(tmp_path, capsys):
    with pytest.raises(ValueError) as error:
        Breaks([3]).train(tmp_path / 'one', 1)
    assert str(error.value) == (
        'the loss or the parameters are no longer finite in round 3, updates 5 to 6: training '
        'stops, and checkpoint 2 is kept; try a lower learning rate'
    )
    assert [row['updates'] for row in metrics.read(tmp_path / 'one')] == [2, 4, 6]
    _, finished = Breaks([3, 9]).train(tmp_path / 'two', 2)
    assert finished
    warning = 'warning: the loss or the parameters of seeds 0 of the 2 are no longer finite'
    assert capsys.readouterr().err.count(warning) == 1
    with pytest.raises(ValueError, match='of seeds 1 of the 2 are no longer finite in round 4'):
        Breaks([3, 4]).train(tmp_path / 'both', 2)


def test_scores_are_compared_with_scores_that_were_measured_likewise(tmp_path):
    state = types.LoopState(train_state.create({'net': jnp.zeros(2)}, {}), (), jnp.zeros(2), ())
    mine, other = (continuing.scored_by(recipe(eval__first_seed=i)) for i in (1, 2))
    assert mine != other and mine == continuing.scored_by(recipe(eval__first_seed=1, eval__every=7))
    with checkpoint.open_manager(tmp_path, keep_last=1, scored_by=mine) as manager:
        for step, (score, scored_by) in enumerate([(0.9, other), (0.5, mine), (0.2, mine)]):
            checkpoint.save(manager, step, state, {}, score, scored_by)
        manager.wait_until_finished()
        assert checkpoint.best_step(manager) == 1 and sorted(manager.all_steps()) == [1, 2]


def test_what_may_change():
    may = continuing.may_change(recipe())
    assert may('eval.every', 1, 2) and may('loop.num_env_steps', 1, 2)
    for key in ('env.episode_steps', 'agent.gamma', '(seed)', 'loop.num_envs', 'disturb.push'):
        assert not may(key, 1, 2)
    assert not may('loop.num_env_steps', 2, 1)
