"""Runs that begin with another run's weights."""

import jax
import numpy as np
import pytest

from configs.smoke import diffusion
from experiments import train
from experiments.studies.bake_off import methods as bake_off_methods
from jaxpolicy.runs import saved as trained


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
    assert train.train(config, directory, train.Options())
    return directory


def student(demos, workdir, **fields):
    config = bake_off_methods.config(recipe(demos), 'consistency', workdir)
    config.agent.update(fields)
    return config


@pytest.mark.parametrize('num_seeds', [1, 2])
def test_a_student_keeps_its_teacher(demos, teacher, tmp_path, num_seeds):
    config = student(demos, tmp_path)
    config.teacher.workdir = str(teacher)
    options = train.Options(num_seeds=num_seeds)
    assert train.train(config, tmp_path / 'run', options)
    wanted, found = weights(teacher), weights(tmp_path / 'run')
    for name, value in wanted.items():
        if 'target_params/denoiser' in name:
            mine = found[name.replace('target_params/denoiser', 'params/teacher')]
            for one in mine if num_seeds > 1 else [mine]:
                np.testing.assert_array_equal(one, value, err_msg=name)
    assert any('params/teacher' in name for name in found)


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
        config.teacher.workdir = str(tmp_path / 'other')
        other = recipe(demos, **teacher_fields)
        assert train.train(other, tmp_path / 'other', train.Options())
    else:
        config.teacher.workdir = str(teacher)
    with pytest.raises(ValueError, match=message):
        train.train(config, tmp_path / 'run', train.Options())


def test_agents_that_learn_alone_want_no_teacher(demos, teacher, tmp_path):
    config = recipe(demos)
    config.teacher.workdir = str(teacher)
    with pytest.raises(ValueError, match='expected none for this agent'):
        train.train(config, tmp_path, train.Options())


def test_a_policy_is_loaded_ready_to_act(teacher):
    obs, key = np.zeros((3, 3), np.float32), jax.random.key(0)
    actions = {}
    for sampler in ('euler', 'heun'):
        policy = trained.load_policy(
            teacher, num_robots=3, which='latest', changes={'agent.sampler': sampler}
        )
        _, actions[sampler], _ = policy.act(policy.init(obs), obs, key)
        assert actions[sampler].shape == (3, 1)
    assert (actions['euler'] != actions['heun']).any()  # the sampler was changed


def test_methods_of_the_bake_off_are_recipes(demos, tmp_path):
    """Each is a config of its agent, with the recipe's network and epochs."""
    from jaxpolicy.runs import kinds as runs

    for name in bake_off_methods.METHODS:
        config = bake_off_methods.config(recipe(demos), name, tmp_path)
        assert config.agent.width == 16 and config.loop.num_epochs == 2
        for acting in bake_off_methods.ACTING[config.agent.name]:
            config.agent.update(acting)
            if acting.get('num_sample_steps', 0) <= 4:  # the smoke recipe trains four levels
                runs.make_run(config)
            assert bake_off_methods.evaluations(config.agent) >= 1
