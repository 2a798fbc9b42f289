"""The scripted expert of `pick`: differential inverse kinematics and four plain rules.

The hand moves above the cube with open fingers. It moves down when it is over the cube. It closes
the fingers when the cube is between them. It moves the cube to the goal when the fingers hold it.
Each step follows from the observation alone, so that the expert picks a lost cube up again. The
hand moves by damped least squares on the Jacobian, as in `detour_expert`. It points down, with the
fingers parallel to the nearest side of the cube.
"""

import jax
import jax.numpy as jnp

from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.tasks import pick
from jaxpolicy.types import Key, Policy

SPEED = 0.4  # m/s at most
RATE = 5.0  # 1/s, speed per m of distance that is left
HOVER = 0.06  # m above the cube
OVER = 0.01  # m, level distance at which the hand goes down
INSIDE = 0.007  # m, distance of the cube from the end effector at which the fingers close
LOST = 0.035  # m, the same distance, at which closed fingers open again
TURN = 0.15  # share of the wrong turn that one step takes away
ACTION_NOISE = 0.05  # standard deviation, in units of the action
DAMPING = 0.05  # of the least squares
TURN_WEIGHT = 0.3  # m/rad, weight of the hand's turn against the tip's position
POSTURE_RATE = 0.02  # share of the way home per step, in the null space


def wanted(obs: jax.Array, num_dof: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The hand's velocity [3] m/s and turn [3] rad, and the fingers' action [], -1 to close."""
    rest = obs[3 * num_dof :]
    ee, down = rest[:3], rest[6:9]
    press, cube = -rest[11:13].max(), rest[13:16]
    axes, goal = rest[19:25].reshape(3, 2), rest[28:31]
    gap = cube - ee
    distance, level = jnp.linalg.norm(gap), jnp.linalg.norm(gap[:2])
    touched = (press > 0.002) & (distance < LOST)
    held = (press > 0.008) & (distance < LOST)
    hover = gap + jnp.array([0.0, 0.0, HOVER])
    move = jnp.where(held, goal - cube, jnp.where(level < OVER, gap, hover))
    speed = jnp.minimum(RATE, SPEED / jnp.maximum(jnp.linalg.norm(move), 1e-6))
    # The angle to the cube's x axis in the hand's x-y plane, less whole quarter turns.
    angle = jnp.arctan2(axes[1, 0], axes[0, 0])
    angle = jnp.mod(angle + jnp.pi / 4, jnp.pi / 2) - jnp.pi / 4
    tilt = jnp.cross(down, jnp.array([0.0, 0.0, -1.0]))
    grip = jnp.where(touched | (distance < INSIDE), -1.0, 1.0)
    return speed * move, TURN * (tilt + angle * down), grip


def make(config: pick.Config) -> Policy:
    """Builds the expert, which carries nothing.

    Raises:
      ValueError: there is no arm with that number of joints.
    """
    robot = arm.make(config.num_dof, pick.HOME)
    d = config.num_dof

    def steer(obs: jax.Array) -> jax.Array:
        """The action [D + 1] of one episode, before noise."""
        qpos, lag = obs[:d], obs[2 * d : 3 * d]
        velocity, turn, grip = wanted(obs, d)
        pose = robot.pose(qpos + 0.5 * lag)  # between the joints and the targets that lead them
        error = jnp.concatenate([velocity * arm.CONTROL_DT, TURN_WEIGHT * turn])
        jacobian = jnp.concatenate([pose.jacobian, TURN_WEIGHT * pose.spin])  # [6, D]
        homing = POSTURE_RATE * (jnp.asarray(robot.home) - qpos)
        gram = jacobian @ jacobian.T + DAMPING**2 * jnp.eye(6)
        change = homing + jacobian.T @ jnp.linalg.solve(gram, error - jacobian @ homing)
        return jnp.append(change / config.action_scale, grip)

    def act(carry: tuple[()], obs: jax.Array, key: Key):
        action = jax.vmap(steer)(obs)
        action += ACTION_NOISE * jax.random.normal(key, action.shape)
        return carry, jnp.clip(action, -1.0, 1.0), {}

    return Policy(lambda obs: (), act)
