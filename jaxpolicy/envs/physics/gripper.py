# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""The arm of `arm.py` with a two-finger gripper, and a cube on the floor, with real contact.

The end effector ('ee') stays where it is on the bare arm, which is between the tips of the fingers.
The fingers slide along the hand's y axis. A finger's joint position is the distance in m of its
inner face from the middle. Both fingers are position-controlled. Gravity acts on the cube alone,
because all other bodies compensate theirs.

Only the pairs that matter for picking can touch: cube and floor, cube and fingers, fingers and
floor. The fingers are capsules, because their contacts with a box cost MJX half as much as those of
a box. The solver gets three Newton iterations: one is not enough to hold the cube, and more change
nothing.
"""

import mujoco
import numpy as np

from jaxpolicy.envs.physics import arm

MAX_OPENING = 0.04  # m, of one finger
CUBE_HALF = 0.02  # m
FINGER_RADIUS = 0.008  # m
FINGER_GAIN = 200.0  # N / m
FINGER_DAMPING = 10.0  # N s / m
FRICTION = (1.5, 1.5, 0.02, 1e-4, 1e-4)  # cube and fingers: sliding, sliding, torsion, rolling
FINGERS = ('left_finger', 'right_finger')


def make_model(num_dof: int) -> mujoco.MjModel:
    """Builds the model; its joints are the arm's, the two fingers', and the cube's free joint.

    Raises:
      ValueError: there is no arm with that number of joints.
    """
    spec = mujoco.MjSpec.from_string(arm.mjcf(num_dof))
    spec.option.disableflags = 0
    spec.option.gravity = (0.0, 0.0, -9.81)
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.iterations, spec.option.ls_iterations = 3, 6
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    floor = next(g for g in spec.geoms if g.type == mujoco.mjtGeom.mjGEOM_PLANE)
    floor.name = 'floor'
    _add_fingers(spec, spec.body('hand_roll'))
    cube = spec.worldbody.add_body(name='cube', pos=(0.45, 0.0, CUBE_HALF))
    cube.add_freejoint(name='cube')
    rgba = (0.25, 0.4, 0.85, 1.0)
    cube.add_geom(name='cube', type=mujoco.mjtGeom.mjGEOM_BOX, size=(CUBE_HALF,) * 3, rgba=rgba)
    _add_pair(spec, 'cube', 'floor', 3, (1.0, 1.0, 0.005, 1e-4, 1e-4))
    for finger in FINGERS:
        _add_pair(spec, 'cube', finger, 4, FRICTION)
        _add_pair(spec, finger, 'floor', 1, FRICTION)
    return spec.compile()


def _add_fingers(spec: mujoco.MjSpec, hand) -> None:
    """Shortens the hand and puts a palm and two fingers on it."""
    kinds = mujoco.mjtGeom
    hand.geoms[0].fromto = (0.0, 0.0, 0.0, 0.0, 0.0, 0.03)
    dark = (0.25, 0.27, 0.3, 1.0)
    hand.add_geom(type=kinds.mjGEOM_BOX, size=(0.015, 0.055, 0.01), pos=(0, 0, 0.05), rgba=dark)
    for name, side in zip(FINGERS, (1.0, -1.0), strict=True):
        finger = hand.add_body(name=name, pos=(0.0, 0.0, 0.085), gravcomp=1.0)
        finger.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0.0, side, 0.0),
            damping=FINGER_DAMPING,
            armature=0.1,
        )
        finger.add_geom(
            name=name,
            type=kinds.mjGEOM_CAPSULE,
            size=(FINGER_RADIUS, 0.02, 0.0),
            pos=(0.0, side * FINGER_RADIUS, 0.0),
            rgba=dark,
        )
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=FINGER_GAIN)


def _add_pair(spec: mujoco.MjSpec, first: str, second: str, condim: int, friction) -> None:
    spec.add_pair(geomname1=first, geomname2=second, condim=condim, friction=np.array(friction))
