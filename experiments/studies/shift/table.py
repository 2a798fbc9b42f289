"""The shifts of `experiments.studies.shift`: what each does to a task, how strongly, in which unit.

`make_env` builds a task with all its shifts at once, each as strong as a number that may be traced;
most are at the strength that changes nothing. So one compiled program serves all shifts and all
severities, which matters where compiling takes longer than a thousand episodes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import envs, types
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.envs.tasks import pusht
from jaxpolicy.envs.wrap import disturb, randomize, time_limit, truth

from . import disturbances

MOST_LATE = 8  # the longest latency, in control steps


class Scale(NamedTuple):
    """The demonstrations' observations, column by column."""

    mean: jax.Array  # [D]
    std: jax.Array  # [D]


class Shift(NamedTuple):
    """One way in which the world differs from the demonstrations'.

    fields(config of the task, severity) -> fields of it that change
    physics: fields of the MuJoCo model and names of rows, scaled by the severity
    disturb(env, severity, scale) -> env
    held: the policy acts at every severity-th step only
    """

    unit: str
    nominal: float  # the severity that changes nothing
    severities: tuple[float, ...]
    fields: Callable[[Any, Any], dict[str, Any]] | None = None
    physics: tuple[str, ...] = ()
    disturb: Callable[[types.Env, Any, Scale], types.Env] | None = None
    held: bool = False


def strengths(table: Mapping[str, Shift], name: str, severity: float) -> dict[str, jax.Array]:
    """The strength of each shift of a task: the severity for the named one, nominal for others."""
    nominal = {other: shift.nominal for other, shift in table.items()}
    return {n: jnp.asarray(x, jnp.float32) for n, x in (nominal | {name: severity}).items()}


def make_env(
    task: envs.Task,
    config: Any,
    hidden: tuple[int, ...],
    table: Mapping[str, Shift],
    strength: Mapping[str, jax.Array],
    scale: Scale,
) -> types.Env:
    """The shifted task, time-limited, unbatched; `truth.truth` finds what is true.

    Its time limit is that of the task, in env steps. Where actions are changes of targets, a robot
    that decides less often is slower as well, and so the limit counts decisions instead.

    Args:
      config: of the task.
      hidden: columns that the policy never sees.
      table: the task's shifts.
      strength: of each of them, [], may be traced.
    """
    assert task.make is not None
    changes, entries = {}, []
    for name, shift in table.items():
        if shift.fields:
            changes |= shift.fields(config, strength[name])
        if shift.physics:
            names, *rows = shift.physics
            (entry,) = randomize.parse({name: (names, 'scale', 'uniform', 1.0, 1.0, *rows)})
            entries.append(dataclasses.replace(entry, low=strength[name], high=strength[name]))
    draw = (randomize.drawer(entries),) if entries else ()
    with jax.ensure_compile_time_eval():  # building a MuJoCo model needs its arrays at once
        env = task.make(dataclasses.replace(config, **changes), *draw)
    env = truth.remember_truth(env)
    for name, shift in table.items():
        if shift.disturb:
            env = shift.disturb(env, strength[name], scale)
    env = disturb.apply(env, disturb.Config(hidden=hidden))
    (interval,) = (strength[name].astype(int) for name, shift in table.items() if shift.held)
    if task.relative:
        return time_limit.time_limit(disturbances.hold(env, interval, True), config.episode_steps)
    return disturbances.hold(time_limit.time_limit(env, config.episode_steps), interval, False)


def _push_joints(env, s, scale):
    """Pushes the arm's joints alone: in `pick` the state has velocities of other things, too."""
    del scale
    joints = env.spec.action.shape[0] - 1
    return disturbances.push_once(env, s * jnp.append(jnp.ones(joints), jnp.zeros(8)), (5, 20))


_SENSES = {
    'obs_noise': Shift(
        'standard deviations',
        0.0,
        (0.03, 0.1, 0.3, 1.0),
        disturb=lambda env, s, scale: disturbances.noise_obs(env, s * scale.std),
    ),
    'obs_bias': Shift(
        'standard deviations',
        0.0,
        (0.03, 0.1, 0.3, 1.0),
        disturb=lambda env, s, scale: disturbances.bias_obs(env, s * scale.std),
    ),
    'obs_dropout': Shift(
        'probability of a column',
        0.0,
        (0.02, 0.05, 0.1, 0.2),
        disturb=lambda env, s, scale: disturbances.drop_obs(env, s, scale.mean),
    ),
}
_ARM = {
    'starts': Shift(
        'half-widths of the start box',
        0.0,
        (1.5, 2.0, 3.0, 5.0),
        fields=lambda config, s: {'joint_noise_inner': s * config.joint_noise},
    ),
    'action_noise': Shift(
        'of the largest action',
        0.0,
        (0.1, 0.2, 0.4, 0.8),
        disturb=lambda env, s, scale: disturbances.noise_action(env, s),
    ),
    **_SENSES,
    'push': Shift(
        'rad/s, every joint',
        0.0,
        (1.0, 2.0, 4.0, 8.0),
        disturb=lambda env, s, scale: disturbances.push_once(env, s, (5, 20)),
    ),
    'latency': Shift(
        'control steps',
        0.0,
        (1, 2, 4, 6, 8),
        disturb=lambda env, s, scale: disturbances.late_action(env, s, MOST_LATE),
    ),
    'payload': Shift(
        "times the hand's mass",
        1.0,
        (5.0, 10.0, 20.0, 50.0),
        physics=('body_mass+body_inertia', 'hand_roll'),
    ),
    'friction': Shift(
        "times the joints' viscous friction", 1.0, (0.5, 0.7, 1.4, 2.0), physics=('dof_damping',)
    ),
    'gain': Shift(
        "times the actuators' gain",
        1.0,
        (0.5, 0.7, 1.4, 2.0),
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
        'm more',
        0.0,
        (0.01, 0.02, 0.03, 0.04),
        fields=lambda config, s: {'pillar_radius': config.pillar_radius + s},
    ),
}
_PICK = {'push': _ARM['push']._replace(disturb=_push_joints)}
_PUSHT = {
    'starts': Shift(
        "px outside the block's start box",
        0.0,
        (5.0, 10.0, 20.0, 40.0),
        fields=lambda config, s: {'block_inner': jnp.where(s > 0, pusht_gym.BOX[1] + s, 0.0)},
    ),
    'action_noise': _ARM['action_noise']._replace(severities=(0.02, 0.05, 0.1, 0.2)),
    **_SENSES,
    'push': Shift(
        'px, the block',
        0.0,
        (10.0, 20.0, 40.0, 80.0),
        disturb=lambda env, s, scale: disturbances.push_once(
            env, s * jnp.array([1.0, 1.0, 0.0]), (20, 100), 'pose'
        ),
    ),
    'latency': _ARM['latency']._replace(
        disturb=lambda env, s, scale: disturbances.late_action(env, s, MOST_LATE, pusht.stay)
    ),
    'control_rate': _ARM['control_rate']._replace(severities=(2, 3, 5)),
}
_NONE = {'none': Shift('', 0.0, (0.0,))}
SHIFTS = {  # by task, then by name
    'detour': {**_NONE, **_ARM, **_DETOUR},
    'reach': {**_NONE, **_ARM},
    'pick': {**_NONE, **_ARM, **_PICK},
    'pusht': {**_NONE, **_PUSHT},
    'pusht_gym': {**_NONE, **{name: s for name, s in _PUSHT.items() if name != 'push'}},
}
