"""Interactive imitation from a config: whom it asks, what it begins with, what it refuses."""

import jax
import numpy as np
import pytest

from configs.detour import dagger_bc
from configs.smoke import dagger, diffusion
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.loops.dagger import turns
from jaxpolicy.runs import dagger as dagger_runs
from jaxpolicy.runs import dataset as demos_lib
from jaxpolicy.runs import kinds, launch, saved, sections
from jaxpolicy.runs import recipe as recipes

ALONE = launch.Options(num_devices=1)


def recipe(demos, module=dagger, expert=None):
    config = module.get_config()
    config.data.path = str(demos)
    config.eval.every = 0
    if expert:
        config.expert.workdir = str(expert)
    return config


@pytest.fixture(scope='module')
def run(demos, tmp_path_factory):
    """A trained diffusion policy on the pendulum."""
    directory = tmp_path_factory.mktemp('expert') / 'run'
    config = recipe(demos, diffusion)
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.loop.num_epochs = 1
    assert launch.train(config, directory, ALONE)
    return directory


def test_a_run_can_be_asked(demos, run, tmp_path):
    """Its own plan is the label; it sees what the learner does not."""
    config = recipe(demos, expert=run)
    config.disturb.hidden = (0, 1)
    config.agent.head, config.loop.num_rounds = 'mse', 1
    parts, data = dagger_runs.make_parts(config, demos_lib.load_episodes(config))
    seen = jax.eval_shape(parts.env.reset, jax.random.split(jax.random.key(0), 2))
    assert seen.obs.shape == (2, 3)
    state = parts.env.reset(jax.random.split(jax.random.key(0), 2))
    expert = parts.make_expert(data.expert)
    np.testing.assert_array_equal(state.obs[:, :2], 0.0)
    assert (np.abs(expert.see(state)[:, :2]) > 0).any()
    carry, action, _ = expert.policy.act(
        expert.policy.init(expert.see(state)), expert.see(state), jax.random.key(1)
    )
    alone = saved.load_policy(run, num_robots=2, which='latest')
    truth = expert.see(state)
    _, expected, _ = alone.act(alone.init(truth), truth, jax.random.key(1))
    np.testing.assert_allclose(action, expected, atol=1e-5)
    rounds = tmp_path / 'run' / 'rounds'
    rounds.mkdir(parents=True)
    for old in ('0001', '0009', 'seed0_0007'):  # of a run that was given up before it was saved
        (rounds / f'{old}.npz').touch()
    assert launch.train(config, tmp_path / 'run', launch.Options(num_seeds=2, num_devices=1))
    names = sorted(path.name for path in rounds.iterdir())
    assert names == [f'seed{i}_000{r}.npz' for i in (0, 1) for r in (1, 2)]


def test_a_run_goes_on_with_the_expert_that_it_asked(demos, run, monkeypatch):
    config = recipe(demos, expert=run)
    config.agent.head = 'mse'
    began_with = kinds.make_run(config).fingerprint
    sections.check_same(began_with, kinds.make_run(config).fingerprint)
    opened = saved.open_run(run)
    later = opened._replace(train=jax.tree.map(lambda x: x + 1, opened.train))
    monkeypatch.setattr(saved, 'open_run', lambda *_, **__: later)
    with pytest.raises(ValueError, match='expert.workdir: expected the expert that this run'):
        sections.check_same(began_with, kinds.make_run(config).fingerprint)


def test_a_run_begins_with_another(demos, run, tmp_path):
    config = recipe(demos, expert=run)
    theirs = recipe(demos, diffusion)
    config.agent.unlock()
    config.agent = theirs.agent
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.normalize = theirs.normalize
    config.begin.workdir, config.begin.checkpoint = str(run), 'latest'
    config.loop.restart = False
    made = kinds.make_run(config)
    init = jax.jit(made.loop.init)
    fresh = init(jax.random.key(5))
    state = made.begin(1)(fresh)
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), state.train.params, fresh.train.params)
    assert any(jax.tree.leaves(differ))
    # Learning goes on from the weights that act: the first update makes the EMA of its result.
    for name, ema in state.train.target_params.items():
        jax.tree.map(np.testing.assert_array_equal, state.train.params[name], ema)
    config.agent = recipe(demos, expert=run).agent
    with pytest.raises(ValueError, match='begin.workdir: expected a run with a network like one'):
        kinds.make_run(config).begin(1)
    config.normalize.obs = 'none'
    with pytest.raises(ValueError, match="normalize.obs: expected 'min_max' as in the run"):
        kinds.make_run(config).begin(1)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'loop.gate': 'fence'}, "loop.gate: expected one of .*'surprise'.*found 'fence'"),
        ({'loop.gate': 'thrifty'}, "num_members: expected at least 2 for the gate 'thrifty'"),
        ({'loop.num_members': 3}, "num_members: expected 1 for the gate 'beta', found 3"),
        ({'loop.gate': 'surprise', 'agent.head': 'mse'}, "'surprise' needs a diffusion policy"),
        ({'loop.beta': 2.0}, 'loop.beta: expected 0 to 1, found 2.0'),
        ({'loop.label_share': 1.0}, 'loop.label_share: expected 0 to below 1, found 1.0'),
        ({'loop.queries_per_round': 99}, 'queries_per_round: expected at most the 4 blocks'),
        ({'loop.num_envs': 0}, 'loop.num_envs: expected at least 1, found 0'),
        ({'begin.workdir': 'x'}, 'loop.restart: expected False'),
        ({'expert.workdir': 'nowhere'}, r'config\.expert\.workdir: .*nowhere'),
        ({'execute.inpaint_actions': 1}, r'config\.execute\.inpaint_actions: expected 0'),
        ({'expert.workdir': ''}, "'pendulum' has no expert of its own; detour and pick have one"),
        ({'data.tag': 'mine'}, r"data.tag: expected one of \[\], found 'mine'"),
    ],
)
def test_mistakes_are_named(demos, run, changes, message):
    config = recipe(demos, expert=run)
    for key, value in changes.items():
        group, name = key.split('.')
        config[group][name] = value
    with pytest.raises(ValueError, match=message):
        kinds.make_run(config)


DETOUR = pytest.param('detour', 'beta', marks=pytest.mark.slow)  # it takes seconds to trace
LINE = 'tests.commands.line'


@pytest.mark.parametrize(('env', 'gate'), [(LINE, 'beta'), (LINE, 'thrifty'), DETOUR])
def test_a_round_asks_the_scripted_expert(detour_demos, line_demos, env, gate):
    """A round keeps every shape and type of what it began with."""
    config = dagger_bc.get_config()
    config.env = recipes.dagger('bc', env, 'episodes', '').env
    config.data.path = str(detour_demos if env == 'detour' else line_demos)
    config.data.num_episodes = 4
    config.loop.gate = gate
    config.loop.num_members = 2 if gate == 'thrifty' else 1
    made = kinds.make_run(config)
    state = jax.eval_shape(made.loop.init, jax.random.key(0))
    after, metrics = jax.eval_shape(made.loop.step, state, made.data)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert metrics['expert_steps'].shape == ()


def test_steps_become_episodes(tmp_path):
    running = np.array([[[1, 1], [1, 0]], [[1, 0], [0, 0]]], bool)  # [B, Ta, N]
    action = np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1) / 10 + np.array([[0.0], [0.5]])
    steps = turns.Steps(
        obs=np.repeat(action, 3, axis=-1).astype(np.float32),
        action=action.astype(np.float32),
        running=running,
        intervention=running & (np.arange(2)[:, None, None] == 1),
        success=running,
    )  # pyright: ignore[reportArgumentType]
    found = dagger_runs.as_episodes(steps, {'round': 1})
    assert found.episode_ends.tolist() == [3, 4]
    np.testing.assert_allclose(found.action[:, 0], [0.0, 0.1, 0.2, 0.5], rtol=1e-5)
    assert found.tags['intervention'].tolist() == [0, 0, 1, 0]
    episodes_lib.save(tmp_path / 'a.npz', found)
