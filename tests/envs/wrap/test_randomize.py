# pyright: reportAttributeAccessIssue=false
"""Domain randomisation: what is drawn.

That it acts is tested in physics/test_arm.py, that it is drawn anew in tasks/test_pick.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.physics import stepping as physics
from jaxpolicy.envs.tasks import parts, reach
from jaxpolicy.envs.wrap import randomize
from tests.envs import native

ENTRIES = {
    'mass': ('body_mass+body_inertia', 'scale', 'uniform', 0.5, 2.0),
    'kp': ('actuator_gainprm[0]+actuator_biasprm[1]', 'scale', 'log_uniform', 0.5, 2.0),
    'damping': ('dof_damping', 'add', 'normal', 5.0, 1.0, 'elbow_pitch', 'wrist_pitch'),
    'speed': ('env.action_scale', 'set', 'uniform', 0.02, 0.08),
}


@pytest.fixture(scope='module')
def robot():
    return arm.make(7, reach.HOME, randomize.drawer(randomize.parse(ENTRIES)))


def test_draws_are_what_the_entries_say(robot):
    keys = jax.random.split(jax.random.key(0), 256)
    drawn = jax.device_get(jax.jit(jax.vmap(lambda key: robot.draw(reach.Config(), key)))(keys))
    model = robot.model
    mass = drawn['body_mass'][:, 1:] / model.body_mass[1:]
    assert 0.5 <= mass.min() < 0.52 and 1.97 < mass.max() <= 2.0
    inertia = drawn['body_inertia'][:, 1:] / model.body_inertia[1:]
    np.testing.assert_allclose(inertia, np.repeat(mass[..., None], 3, -1), rtol=1e-5)
    kp = drawn['actuator_gainprm'][..., 0]
    np.testing.assert_allclose(drawn['actuator_biasprm'][..., 1], -kp, rtol=1e-6)
    factor = np.log2(kp / model.actuator_gainprm[:, 0])
    assert abs(factor.mean()) < 0.05 and factor.min() >= -1 and factor.max() <= 1.0001
    np.testing.assert_array_equal(drawn['actuator_biasprm'][..., 2], 0)
    added = np.asarray(drawn['dof_damping'] - model.dof_damping)
    np.testing.assert_allclose(added[:, [0, 1, 2, 4, 6]], 0.0, atol=1e-5)
    assert abs(added[:, [3, 5]].mean() - 5) < 0.2 and 0.85 < added[:, [3, 5]].std() < 1.15
    assert drawn['env.action_scale'].shape == (256,)
    assert set(drawn) == {
        *('body_mass', 'body_inertia', 'actuator_gainprm', 'actuator_biasprm'),
        *('dof_damping', 'env.action_scale'),
    }


def test_no_entries_change_nothing(monkeypatch):
    def make_step(model, num_substeps):  # in place of MJX's, which takes long to trace
        del model, num_substeps
        return lambda qpos, qvel, ctrl, drawn: (sum(drawn.values(), ctrl), qvel)

    monkeypatch.setattr(physics, 'make_step', make_step)
    programs = []
    for draw in (None, randomize.drawer(())):
        env = reach.make(reach.Config(), draw)
        state = jax.eval_shape(env.reset, jax.random.key(2))
        assert parts.find(state.sim, arm.Body).overrides == {}
        programs.append(jax.jit(env.step).lower(state, jnp.ones(7)).as_text())
    assert programs[0] == programs[1]


def test_rows_by_name_and_number_and_all_degrees_of_freedom_of_a_joint():
    joint = '<joint name="{0}" type="{1}"/><geom name="{0}" size="0.1"/>'
    bodies = ''.join(
        f'<body name="{name}">{joint.format(name, kind)}</body>'
        for name, kind in (('a', 'hinge'), ('b', 'free'), ('c', 'hinge'))
    )
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{bodies}</worldbody></mujoco>')
    entries = randomize.parse(
        {
            'damping': ('dof_damping', 'set', 'uniform', 1.0, 1.0, 'b'),
            'friction': ('geom_friction[0]', 'set', 'uniform', 0.5, 0.5, 'a', 2),
            'gravity': ('opt.gravity', 'add', 'uniform', 1.0, 1.0, 2),
            'more': ('dof_damping', 'add', 'uniform', 2.0, 2.0, 0, 'b'),
        }
    )
    draw, device_model = randomize.drawer(entries), physics.put(model)[0]
    drawn = jax.jit(lambda key: draw(device_model, None, key))(jax.random.key(0))
    np.testing.assert_array_equal(drawn['dof_damping'], [2, 3, 3, 3, 3, 3, 3, 0])
    np.testing.assert_allclose(drawn['geom_friction'][:, 0], [0.5, 1.0, 0.5])
    np.testing.assert_allclose(drawn['geom_friction'][:, 1:], model.geom_friction[:, 1:])
    np.testing.assert_allclose(drawn['opt.gravity'], [0.0, 0.0, -8.81], rtol=1e-6)


def _friction(model: mjx.Model, rng: jax.Array):
    """A randomisation in Playground's form."""

    def one(key):
        scale = jax.random.uniform(key, minval=0.5, maxval=1.5)
        return model.dof_frictionloss + scale, model.body_mass * scale

    loss, mass = jax.vmap(one)(rng)
    in_axes = jax.tree.map(lambda x: None, model)
    in_axes = in_axes.tree_replace({'dof_frictionloss': 0, 'body_mass': 0})
    return model.tree_replace({'dof_frictionloss': loss, 'body_mass': mass}), in_axes


def test_a_playground_style_function_is_accepted():
    with native.arms():
        robot = arm.make(7, reach.HOME, randomize.from_playground(_friction))
    draw = jax.jit(jax.vmap(lambda key: robot.draw(reach.Config(), key)))
    drawn = draw(jax.random.split(jax.random.key(0), 4))
    assert {name: x.shape for name, x in drawn.items()} == {
        'dof_frictionloss': (4, 7),
        'body_mass': (4, 8),
    }
    assert len(np.unique(drawn['dof_frictionloss'])) == 4

    def move(drawn):
        body = robot.start(jnp.asarray(robot.home), drawn)
        return body, robot.move(body, jnp.ones(7))[0]

    body, after = jax.eval_shape(jax.vmap(move), drawn)
    assert after == body
    assert after.overrides == jax.eval_shape(lambda x: x, drawn)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (('body_mass', 'scale', 'uniform', 0.5), r'randomize.x: expected \(fields'),
        (('body_mass', 'scale', 'uniform', '0.5', 1.0), r"randomize.x: .*found .*'0.5'"),
        ((3, 'scale', 'uniform', 0.5, 1.0), r'randomize.x: .*found \(3'),
        (0.5, 'randomize.x: .*found 0.5'),
        (('body_mass', 'scale', 'uniform', 1.0, 0.5), 'low <= high, found 1.0 and 0.5'),
        (('body_mass', 'times', 'uniform', 0.5, 1.0), "an operation of .*found 'times'"),
        (('body_mass', 'scale', 'gauss', 0.5, 1.0), "a distribution of .*found 'gauss'"),
        (('body_mass', 'scale', 'log_uniform', 0.0, 1.0), '0 < low <= high, found 0.0'),
        (('body mass', 'scale', 'uniform', 0.5, 1.0), "found 'body mass'"),
    ],
)
def test_bad_entries_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        randomize.parse({'x': entry})


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (('body_mas', 'scale', 'uniform', 0.5, 1.0), "x: .*'body_mas'; .*mean .*'body_mass'"),
        (('nbody', 'scale', 'uniform', 0.5, 1.0), "no number is called 'nbody'"),
        (('env.num_dof', 'scale', 'uniform', 0.5, 1.0), "no number is called 'env.num_dof'"),
        (('dof_damping', 'scale', 'uniform', 0.5, 1.0, 7), 'dof_damping has 7 rows, found 7'),
        (('dof_damping', 'scale', 'uniform', 0.5, 1.0, -1), 'has 7 rows, found -1'),
        (('opt.gravity', 'add', 'uniform', 0.5, 1.0, 'z'), 'rows of opt.gravity have no names'),
        (('env.action_scal', 'scale', 'uniform', 0.5, 1.0), 'env.action_scale'),
        (('body_mass[1]', 'scale', 'uniform', 0.5, 1.0), r'body_mass\[1\] does not exist'),
        (('dof_damping', 'scale', 'uniform', 0.5, 1.0, 'knee'), "no joint called 'knee'"),
        (
            ('body_mass+dof_damping', 'scale', 'uniform', 0.5, 1.0),
            'x: expected .* rows in dof_damping as',
        ),
    ],
)
def test_entries_that_do_not_fit_the_model_are_refused(robot, entry, message):
    draw = randomize.drawer(randomize.parse({'x': entry}))
    model = physics.put(robot.model)[0]
    with pytest.raises(ValueError, match=message):
        draw(model, reach.Config(), jax.random.key(0))


def test_task_numbers_are_replaced_for_an_episode():
    config = randomize.configured(reach.Config(), {'env.tolerance': jnp.float32(0.2)})
    assert float(config.tolerance) == pytest.approx(0.2)
    assert dataclasses.replace(config, tolerance=0.05) == reach.Config()
