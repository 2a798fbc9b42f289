"""Actions that are choices, from a trained run to demonstrations and to what learns from them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cartpole import a2c, bc, dqn
from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import checkpoint, spec_file, workdir
from jaxpolicy.loops import collect
from jaxpolicy.runs import (
    action_labels,
    demonstrators,
    environment,
    kinds,
    launch,
    learner,
    program,
    recipe,
    saved,
    upgrade,
)
from tests import acting

STEPS = 12


def small(config, path=''):
    """With short episodes and a small network, which nothing evaluates."""
    config.env.episode_steps, config.eval.every = STEPS, 0
    if path:
        config.data.path = str(path)
        config.loop.batch_size = 32
    if config.agent.name == 'bc':
        config.agent.width, config.agent.num_blocks, config.agent.warmup_updates = 16, 1, 1
    return config


@pytest.fixture(scope='module')
def expert(tmp_path_factory):
    """A run of A2C that nobody trained: its directory, agent and state."""
    directory = tmp_path_factory.mktemp('expert')
    config = small(a2c.get_config())
    workdir.prepare(directory, config, seed=0, num_seeds=1, upgrade=upgrade.upgrade)
    agent = learner.make_agent(config, environment.make_env(config).spec)
    train = agent.init(jax.random.key(0))
    state = types.LoopState(train=train, env=(), key=jax.random.key(0))
    with contextlib.closing(checkpoint.open_manager(directory / 'checkpoints')) as manager:
        checkpoint.save(manager, 1, state, {}, None)
    return directory, agent, train


@pytest.fixture(scope='module')
def demos(expert, tmp_path_factory):
    """Its demonstrations, in a file."""
    path = tmp_path_factory.mktemp('demos') / 'demos.npz'
    episodes, _, _ = collect.collect(demonstrators.of_run(expert[0]), 20, 0, keep='all')
    episodes_lib.save(path, episodes)
    return path


def test_a_run_demonstrates_its_choices(expert, demos):
    _, agent, train = expert
    loaded = episodes_lib.load(demos)
    assert loaded.action.dtype == np.int8 and loaded.action.shape[1] == 2
    wanted, _ = acting.act_of(agent)(train, loaded.obs, jax.random.key(0), True)
    np.testing.assert_array_equal(loaded.action, wanted)


def test_choices_are_cloned_saved_and_opened(demos, tmp_path):
    config = small(bc.get_config(), demos)
    config.loop.num_epochs = 1
    assert launch.train(config, tmp_path / 'run', launch.Options(num_devices=1))
    found = spec_file.read(tmp_path / 'run').action
    assert (found.shape, found.dtype) == ((2,), np.int8)
    policy = saved.load_policy(tmp_path / 'run', num_robots=3, which='latest')
    obs = np.zeros((3, 4), np.float32)
    _, action, extras = policy.act(policy.init(obs), obs, jax.random.key(0))
    assert action.dtype == np.int8 and (action.sum(-1) == 1).all() and not extras['held'].any()


@pytest.mark.slow
def test_an_expert_is_asked_for_choices(expert, demos, tmp_path):
    config = recipe.dagger('bc', 'cartpole', 'episodes', '')
    config.agent.update(bc.get_config().agent)
    config = small(config, demos)
    config.expert.workdir, config.expert.checkpoint = str(expert[0]), 'latest'
    config.loop.gate = 'expert'
    config.loop.num_rounds, config.loop.num_envs, config.loop.queries_per_round = 1, 4, 4
    config.loop.first_updates = config.loop.updates_per_round = 2
    made = kinds.make_run(config)
    compiled = program.of_run(made, 0, 1, None)
    state, metrics = compiled.step(compiled.init(), made.data)
    assert metrics['nll'] > 0.0 and 0.0 <= metrics['accuracy'] <= 1.0
    labels, steps = state.memory.labels, state.memory.steps
    assert labels.chunks.action.dtype == steps.action.dtype == np.int8
    seen, asked = (x[: int(labels.count)] for x in (labels.chunks.obs, labels.chunks.action))
    assert labels.count > 0
    wanted, _ = acting.act_of(expert[1])(expert[2], seen[:, -1], jax.random.key(0), True)
    np.testing.assert_array_equal(asked[:, 0], wanted)
    made.keep(tmp_path, state, 1)
    explored = episodes_lib.load(tmp_path / 'rounds' / '0001.npz')
    assert explored.action.dtype == np.int8 and len(explored.episode_ends) == 4


def test_values_are_learnt_from_choices(demos):
    """Offline, and beside an agent's own experience."""
    offline = small(recipe.offline_rl('dqn', 'cartpole', ''), demos)
    beside = small(dqn.get_config(), demos)
    beside.loop.demo_share = 0.5
    for config in (offline, beside):
        made = kinds.make_run(config)
        np.testing.assert_array_equal(made.data.rows.action[0], episodes_lib.load(demos).action)
        state = jax.eval_shape(made.loop.init, jax.random.key(0))
        after, metrics = jax.eval_shape(made.loop.step, state, made.data)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert 'critic_loss' in metrics


NO_CHOICES = r"agent.name: expected an agent for discrete actions, such as 'bc' with agent.head=cat"


@pytest.mark.parametrize('name', ['diffusion', 'flow_map', 'mip', 'drifting'])
def test_agents_that_denoise_numbers_name_bc(demos, name):
    with pytest.raises(ValueError, match=NO_CHOICES):
        kinds.make_run(small(recipe.offline(name, 'cartpole', 'episodes', ''), demos))


@pytest.mark.parametrize(
    ('make', 'changes', 'message'),
    [
        (bc, {'agent.head': 'mse'}, r"agent.head: expected one of \('categorical',\) .* 'mse'"),
        (bc, {'normalize.action': 'min_max'}, "normalize.action: expected 'none' .* choices"),
        (bc, {'execute.warm_start_steps': 1}, 'expected 0 for an agent that does not denoise'),
        ('iql', {}, "agent.name: expected an agent for discrete actions, such as 'dqn'"),
    ],
)
def test_what_does_not_go_with_choices(demos, make, changes, message):
    config = make.get_config() if make is bc else recipe.offline_rl(make, 'cartpole', '')
    config = small(config, demos)
    for key, value in changes.items():
        config[key.split('.')[0]][key.split('.')[1]] = value
    with pytest.raises(ValueError, match=message):
        kinds.make_run(config)


def test_actions_are_not_labelled_where_they_are_choices(demos):
    spec = environment.make_env(small(a2c.get_config())).spec
    with pytest.raises(ValueError, match='expected continuous actions, found choices'):
        action_labels.check_fit(spec, episodes_lib.load(demos))
