"""Runs that are opened again: to act, to evaluate, to teach."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from configs.smoke import diffusion
from experiments.studies.bake_off import methods as bake_off_methods
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import spec_file, workdir
from jaxpolicy.runs import evaluation, kinds, launch, program, saved
from jaxpolicy.runs import recipe as recipes
from tests import fork

ALONE = launch.Options(num_devices=1)


def recipe(demos, **fields):
    config = diffusion.get_config()
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.agent.update(fields)
    config.data.path = str(demos)
    config.eval.every = 0
    config.loop.num_epochs = 2
    return config


@pytest.fixture(scope='module')
def teacher(demos, tmp_path_factory):
    directory = tmp_path_factory.mktemp('teacher') / 'run'
    config = recipe(demos, objective='flow', sampler='euler', num_sample_steps=2)
    assert launch.train(config, directory, ALONE)
    return directory


def student(demos, directory, **fields):
    config = bake_off_methods.config(recipe(demos), 'consistency', directory)
    config.agent.update(fields)
    return config


def test_students_keep_their_teacher(demos, teacher, tmp_path):
    config = student(demos, tmp_path)
    config.teacher.workdir = str(teacher)
    options = launch.Options(num_seeds=2, num_devices=1)
    assert launch.train(config, tmp_path / 'run', options)
    wanted, found = weights(teacher), weights(tmp_path / 'run')
    for name, value in wanted.items():
        if 'target_params/denoiser' in name:
            mine = found[name.replace('target_params/denoiser', 'params/teacher')]
            assert len(mine) == 2
            for one in mine:
                np.testing.assert_array_equal(one, value, err_msg=name)
    assert any('params/teacher' in name for name in found)


def test_one_student_begins_with_its_teacher(demos, teacher, tmp_path):
    """What it does with it afterwards is that of several students."""
    config = student(demos, tmp_path)
    config.teacher.workdir = str(teacher)
    state = program.of_run(kinds.make_run(config), seed=0, num_seeds=1, mesh=None).init()
    found = state.train.params['teacher']
    wanted = saved.open_run(teacher, 'latest').train.target_params['denoiser']
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def weights(directory):
    """The arrays of a run's last checkpoint by name."""
    import orbax.checkpoint as ocp

    path = max((directory / 'checkpoints').glob('[0-9]*'), key=lambda p: int(p.name))
    tree = ocp.PyTreeCheckpointer().restore(path / 'train')
    return {name: np.asarray(value) for name, value in tree.items()}


@pytest.mark.parametrize(
    ('fields', 'teacher_fields', 'message'),
    [
        ({}, None, "teacher.workdir: expected the workdir of a trained flow, found ''"),
        ({'width': 32}, {}, "the teacher's .*expected .*32.*found .*16"),
        ({}, {'objective': 'eps'}, 'teacher.workdir: expected objective flow'),
    ],
)
def test_teachers_that_do_not_fit(demos, teacher, tmp_path, fields, teacher_fields, message):
    config = student(demos, tmp_path, **fields)
    if teacher_fields is None:
        config.teacher.workdir = ''
    elif teacher_fields:
        other = shutil.copytree(teacher, tmp_path / 'other')  # its arrays would be the same
        config.teacher.workdir = str(other)
        record = json.loads((other / workdir.CONFIG_FILE).read_text())
        record['config']['agent'].update(teacher_fields)
        (other / workdir.CONFIG_FILE).write_text(json.dumps(record))
    else:
        config.teacher.workdir = str(teacher)
    with pytest.raises(ValueError, match=message):
        launch.train(config, tmp_path / 'run', ALONE)


def test_agents_that_learn_alone_want_no_teacher(demos, teacher, tmp_path):
    config = recipe(demos)
    config.teacher.workdir = str(teacher)
    with pytest.raises(ValueError, match='expected none for this agent'):
        launch.train(config, tmp_path, ALONE)


def test_a_policy_is_loaded_ready_to_act(teacher):
    obs, key = np.zeros((3, 3), np.float32), jax.random.key(0)
    actions = {}
    for sampler in ('euler', 'heun'):
        policy = saved.load_policy(
            teacher, num_robots=3, which='latest', changes={'agent.sampler': sampler}
        )
        _, actions[sampler], _ = policy.act(policy.init(obs), obs, key)
        assert actions[sampler].shape == (3, 1)
    assert (actions['euler'] != actions['heun']).any()  # the sampler was changed


def test_methods_of_the_bake_off_are_recipes(demos, tmp_path):
    """Each is a config of its agent, with the recipe's network and epochs."""
    for name in bake_off_methods.METHODS:
        config = bake_off_methods.config(recipe(demos), name, tmp_path)
        assert config.agent.width == 16 and config.loop.num_epochs == 2
        for acting in bake_off_methods.ACTING[config.agent.name]:
            config.agent.update(acting)
            if acting.get('num_sample_steps', 0) <= 4:  # the smoke recipe trains four levels
                kinds.make_run(config)
            assert bake_off_methods.evaluations(config.agent) >= 1


def demonstrations(path, obs, num_actions):
    """A file of four random episodes; obs: sizes of the observations, by name or one."""
    rng = np.random.default_rng(0)
    rows = {} if isinstance(obs, int) else obs
    found = {name: rng.normal(size=(64, n)).astype(np.float32) for name, n in rows.items()}
    flat = rng.normal(size=(64, 1 if rows else obs)).astype(np.float32)
    action = rng.uniform(-1, 1, size=(64, num_actions)).astype(np.float32)
    ends = np.arange(16, 65, 16)
    episodes_lib.save(path, episodes_lib.Episodes(found or flat, action, ends, {}))
    return path


def tiny(agent, env, path):
    config = recipes.offline(agent, env, 'episodes', str(path))
    config.agent.width, config.agent.num_blocks = 8, 1
    config.loop.batch_size, config.loop.num_epochs = 16, 1
    return config


def acts(directory, num_robots=2):
    """The actions of a run's policy, and what it says that it sees."""
    policy, spec = saved.load_policy(directory, num_robots), spec_file.read(directory)
    obs = jax.tree.map(lambda s: np.ones((num_robots, *s.shape), s.dtype), spec.obs)
    _, action, _ = policy.act(policy.init(obs), obs, jax.random.key(0))
    assert action.shape == (num_robots, *spec.action.shape) and np.isfinite(action).all()
    return action, spec


def test_a_policy_needs_no_simulator_no_data_and_no_code_of_its_task(tmp_path, monkeypatch):
    path = demonstrations(tmp_path / 'demos.npz', 20, 2)
    config = tiny('bc', 'pusht_gym', path)
    config.eval.every = 0
    directory = tmp_path / 'run'
    assert launch.train(config, directory, ALONE)
    before, spec = acts(directory)
    assert spec.obs.shape == (20,) and spec.action.shape == (2,)
    about = spec_file.read_about(directory)
    assert about['env'] == 'pusht_gym' and about['control_hz'] == 10.0
    path.unlink()
    for module in ('gym_pusht', 'pymunk'):
        monkeypatch.setitem(sys.modules, module, None)  # importing it raises ImportError
    np.testing.assert_array_equal(acts(directory)[0], before)
    run = saved.open_run(directory)
    with pytest.raises(ImportError, match='gym.pusht'):
        evaluation.make(run.config, agent=run.agent)
    monkeypatch.setitem(sys.modules, 'jaxpolicy.envs.adapters.pusht_gym', None)
    np.testing.assert_array_equal(acts(directory)[0], before)


@pytest.mark.parametrize('obs', [11, {'arm': 7, 'cube': 4}], ids=['flat', 'named'])
def test_a_robot_of_ones_own_has_no_simulator(tmp_path, obs):
    path = demonstrations(tmp_path / 'own_robot.npz', obs, 4)
    directory = tmp_path / 'run'
    assert launch.train(tiny('bc', '', path), directory, launch.Options(num_devices=1, record=True))
    path.unlink()
    _, spec = acts(directory)
    shapes = jax.tree.map(lambda s: s.shape, spec.obs)
    assert shapes == ((11,) if obs == 11 else {'arm': (7,), 'cube': (4,)})
    assert saved.open_run(directory).spec == spec
    result = fork.run('evaluate', f'--workdir={directory}', '--num_episodes=2', '--novideo')
    assert result.returncode != 0 and not (directory / 'evaluation').exists()
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("evaluate: error: config.env.name: expected a task, found ''")
    config = tiny('bc', '', path)
    config.eval.every = 1
    demonstrations(path, obs, 4)
    with pytest.raises(ValueError, match=r'eval.every: expected 0 for a run without a simulator'):
        launch.train(config, tmp_path / 'other', ALONE)


def test_a_damaged_description_is_named(teacher, tmp_path):
    directory = shutil.copytree(teacher, tmp_path / 'run')
    path = directory / spec_file.FILE
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, 'obs': 3}))
    with pytest.raises(ValueError, match=f'{path}: expected shapes and dtypes'):
        saved.load_policy(directory)
    path.write_text(json.dumps({**record, 'obs': {'shape': [4], 'dtype': 'float32'}}))
    with pytest.raises(ValueError, match='does not fit'):
        saved.load_policy(directory)  # it is of another robot
    path.unlink()
    saved.load_policy(directory)  # the task says it, as for runs of older versions
