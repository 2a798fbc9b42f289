"""The shifts of `experiments.shift`: what each does to a task, how strongly, in which unit.

A severity is a number, traced inside jit but for control_rate: one program serves all of a shift.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import envs, types
from jaxpolicy.envs import disturb, perturb, pusht, randomize, transforms

MOST_LATE = 8  # control steps


class Scale(NamedTuple):
    """The demonstrations' observations, column by column."""

    mean: jax.Array  # [D]
    std: jax.Array  # [D]


class Shift(NamedTuple):
    """One way in which the world differs from the demonstrations'.

    fields(config of the task, severity) -> fields of it that change
    physics: name of a MuJoCo model's fields with its rows, scaled by the severity
    disturb(env, severity, scale) -> env
    held: the policy acts at every severity-th step only
    """

    unit: str
    nominal: float  # the severity of no shift, for plots
    severities: tuple[float, ...]
    fields: Callable[[Any, Any], dict[str, Any]] = lambda config, s: {}
    physics: tuple[str, ...] = ()
    disturb: Callable[[types.Env, Any, Scale], types.Env] = lambda env, s, scale: env
    held: bool = False


def make_env(
    module: Any, config: Any, hidden: tuple[int, ...], shift: Shift, severity: Any, scale: Scale
) -> types.Env:
    """The shifted task, time-limited, unbatched; `transforms.truth` finds what is true.

    Args:
      config: of the task.
      hidden: columns that the policy never sees.
      severity: [], traced or, where `held`, an int.
    """
    config = dataclasses.replace(config, **shift.fields(config, severity))
    draw = ()
    if shift.physics:
        names, *rows = shift.physics
        (entry,) = randomize.parse({'shift': (names, 'scale', 'uniform', 1.0, 1.0, *rows)})
        draw = (randomize.drawer([dataclasses.replace(entry, low=severity, high=severity)]),)
    env = transforms.remember_truth(module.make(config, *draw))
    env = perturb.apply(shift.disturb(env, severity, scale), perturb.Config(hidden=hidden))
    env = transforms.time_limit(env, config.episode_steps)
    if shift.held:
        env = disturb.hold(env, int(severity), module in envs.RELATIVE)
    return env


def _push_joints(env, s, scale):
    """Of what else the state's velocities belong to, in `pick`, nothing is pushed."""
    del scale
    joints = env.spec.action.shape[0] - 1
    return disturb.push_once(env, s * jnp.append(jnp.ones(joints), jnp.zeros(8)), (5, 20))


_SENSES = {
    'obs_noise': Shift(
        'standard deviations',
        0.0,
        (0.03, 0.1, 0.3, 1.0),
        disturb=lambda env, s, scale: disturb.noise_obs(env, s * scale.std),
    ),
    'obs_bias': Shift(
        'standard deviations',
        0.0,
        (0.03, 0.1, 0.3, 1.0),
        disturb=lambda env, s, scale: disturb.bias_obs(env, s * scale.std),
    ),
    'obs_dropout': Shift(
        'probability of a column',
        0.0,
        (0.02, 0.05, 0.1, 0.2),
        disturb=lambda env, s, scale: disturb.drop_obs(env, s, scale.mean),
    ),
}
_ARM = {
    'starts': Shift(
        'half-widths of the start box',
        1.0,
        (1.5, 2.0, 3.0, 5.0),
        fields=lambda config, s: {'joint_noise_inner': s * config.joint_noise},
    ),
    'action_noise': Shift(
        'of the largest action',
        0.0,
        (0.1, 0.2, 0.4, 0.8),
        disturb=lambda env, s, scale: disturb.noise_action(env, s),
    ),
    **_SENSES,
    'push': Shift(
        'rad/s, every joint',
        0.0,
        (1.0, 2.0, 4.0, 8.0),
        disturb=lambda env, s, scale: disturb.push_once(env, s, (5, 20)),
    ),
    'latency': Shift(
        'control steps',
        0.0,
        (1, 2, 4, 6, 8),
        disturb=lambda env, s, scale: disturb.late_action(env, s, MOST_LATE),
    ),
    'payload': Shift(
        "times the hand's mass",
        1.0,
        (2.0, 5.0, 10.0, 20.0),
        physics=('body_mass+body_inertia', 'hand_roll'),
    ),
    'friction': Shift(
        "times the joints' viscous friction", 1.0, (0.5, 2.0, 4.0, 8.0), physics=('dof_damping',)
    ),
    'gain': Shift(
        "times the actuators' gain",
        1.0,
        (0.25, 0.5, 2.0, 4.0),
        physics=('actuator_gainprm[0]+actuator_biasprm[1]',),
    ),
    'control_rate': Shift('steps from decision to decision', 1.0, (2, 4, 8), held=True),
}
_DETOUR = {
    'pillar_moved': Shift(
        'm to the left',
        0.0,
        (0.02, 0.04, 0.06, 0.08),
        fields=lambda config, s: {'pillar': (config.pillar[0], config.pillar[1] + s)},
    ),
    'pillar_radius': Shift(
        'm', 0.06, (0.07, 0.08, 0.09, 0.1), fields=lambda config, s: {'pillar_radius': s}
    ),
}
_PICK = {'push': _ARM['push']._replace(disturb=_push_joints)}
_PUSHT = {
    'starts': Shift(
        "px outside the block's start box",
        0.0,
        (5.0, 10.0, 20.0, 40.0),
        fields=lambda config, s: {'block_inner': pusht.BOX[1] + s},
    ),
    'action_noise': _ARM['action_noise']._replace(severities=(0.02, 0.05, 0.1, 0.2)),
    **_SENSES,
    'push': Shift(
        'px, the block',
        0.0,
        (10.0, 20.0, 40.0, 80.0),
        disturb=lambda env, s, scale: disturb.push_once(
            env, s * jnp.array([1.0, 1.0, 0.0]), (20, 100), 'pose'
        ),
    ),
    'latency': _ARM['latency']._replace(
        disturb=lambda env, s, scale: disturb.late_action(env, s, MOST_LATE, pusht.stay)
    ),
    'control_rate': _ARM['control_rate']._replace(severities=(2, 3, 5)),
}
NONE = Shift('', 0.0, (0.0,))
SHIFTS = {  # by task, then by name
    'detour': {'none': NONE, **_ARM, **_DETOUR},
    'reach': {'none': NONE, **_ARM},
    'pick': {'none': NONE, **_ARM, **_PICK},
    'pusht': {'none': NONE, **_PUSHT},
}
