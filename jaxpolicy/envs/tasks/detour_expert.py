"""The scripted expert of `detour`: differential inverse kinematics past a random way-point.

Each episode draws a side of the pillar, left or right with equal odds whatever the goal, and two
random way-points on that side, one before the pillar and one behind it. If the expert takes over in
the middle of an episode, where the tip is already on one side or heading there, it keeps to that
side. The hand's tip follows a smoothed velocity towards the first way-point, then the second, then
the goal. Damped least squares on the arm's Jacobian (Wampler, 1986; Nakamura and Hanafusa, 1986)
turn the velocity into joint steps: dq = J^T (J J^T + lambda^2 I)^-1 e. The rows of J are those of
the tip's position and, with less weight, of the hand's direction, which stays down. The null space
pulls towards home. A little noise on the action makes the demonstrations visit the states around
the path.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.tasks import detour
from jaxpolicy.types import Key, Policy

SPEED = 0.30  # m/s along the path
SPREAD = 0.12  # m/s, the spread of that speed between episodes, either way
PASS = (0.14, 0.19)  # m, sideways distance of the way-points from the pillar's axis
BEFORE = (-0.08, -0.02)  # m, the first way-point minus the pillar, along x
BEHIND = (0.02, 0.06)  # m, the same for the second way-point
# The expert draws no side, but takes that where the tip, at its present velocity, will be after the
# time AHEAD, if the tip will then be more than COMMITTED sideways of the pillar's axis, or if it is
# now less than NEAR before the axis. Neither holds at the start of any episode.
COMMITTED = 0.04  # m
AHEAD = 0.2  # s
NEAR = 0.11  # m
SWITCH = 0.02  # m, distance in x from a way-point at which the next takes over
SMOOTHING = 0.3  # share of the way to the wanted velocity in each step
ACTION_NOISE = 0.05  # standard deviation, in units of the action
DAMPING = 0.05  # lambda
HAND_WEIGHT = 0.3  # m/rad, weight of the hand's direction against the tip's position
POSTURE_RATE = 0.02  # share of the way home per step, in the null space


class Carry(struct.PyTreeNode):
    """What the expert remembers in each of N episodes."""

    started: jax.Array  # [N] bool; the expert draws what follows at its first step
    stage: jax.Array  # [N] int32, way-points passed: 0, 1 or 2
    offset: jax.Array  # [N, 2, 2] m, both way-points minus the pillar, x and y
    speed: jax.Array  # [N] m/s
    velocity: jax.Array  # [N, 3] m/s, smoothed


def draw(key: Key, gap: jax.Array, velocity: jax.Array) -> Carry:
    """Draws a side, two way-points and a speed for each of N episodes.

    Args:
      gap: [N, 2] m, the pillar minus the tip, x and y.
      velocity: [N, 3] m/s, velocity of the tip.
    """
    num = len(gap)
    across = AHEAD * velocity[:, 1] - gap[:, 1]
    committed = (jnp.abs(across) > COMMITTED) | (gap[:, 0] < NEAR)
    key_side, key_x, key_y, key_speed = jax.random.split(key, 4)
    side = jnp.where(jax.random.bernoulli(key_side, 0.5, (num, 1)), 1.0, -1.0)
    side = jnp.where(committed, jnp.sign(across), side[:, 0])[:, None]
    low, high = jnp.array([BEFORE, BEHIND]).T
    x = jax.random.uniform(key_x, (num, 2), minval=low, maxval=high)
    y = side * jax.random.uniform(key_y, (num, 2), minval=PASS[0], maxval=PASS[1])
    speed = SPEED + SPREAD * jax.random.uniform(key_speed, (num,), minval=-1.0)
    return Carry(
        started=jnp.ones((num,), bool),
        stage=jnp.zeros((num,), jnp.int32),
        offset=jnp.stack([x, y], axis=-1),
        speed=speed,
        velocity=velocity,
    )


def joint_step(pose: arm.Pose, velocity: jax.Array, homing: jax.Array) -> jax.Array:
    """The change of the joints [D] rad in one action that moves the tip at `velocity` [3] m/s.

    It also turns the hand towards straight down. `homing` [D] rad acts in the null space.
    """
    down = jnp.array([0.0, 0.0, -1.0])
    turn = HAND_WEIGHT * 0.3 * jnp.cross(pose.direction, down)
    error = jnp.concatenate([velocity * arm.CONTROL_DT, turn])  # [6]
    jacobian = jnp.concatenate([pose.jacobian, HAND_WEIGHT * pose.spin])  # [6, D]
    gram = jacobian @ jacobian.T + DAMPING**2 * jnp.eye(6)
    return homing + jacobian.T @ jnp.linalg.solve(gram, error - jacobian @ homing)


def make(config: detour.Config) -> Policy:
    """Builds the expert, which acts from its observations and its carry alone.

    Raises:
      ValueError: there is no arm with that number of joints.
    """
    robot = arm.make(config.num_dof, detour.HOME)
    d = config.num_dof

    def look(obs: jax.Array) -> arm.Pose:
        """The pose half-way between the joints and the targets, which the joints lag behind."""
        return robot.pose(obs[:d] + 0.5 * obs[2 * d : 3 * d])

    def steer(carry: Carry, obs: jax.Array, pose: arm.Pose) -> tuple[Carry, jax.Array]:
        """The carry and the action [D] of one episode, before noise."""
        rest = obs[3 * d :]
        ee, goal, pillar = rest[:3], rest[3:6], rest[9:11]
        height = 0.5 * (ee[2] + goal[2])
        points = jnp.stack([jnp.append(pillar + xy, height) for xy in carry.offset] + [goal])
        stage = carry.stage + (ee[0] > jnp.append(points[:2, 0] - SWITCH, jnp.inf)[carry.stage])
        gap = points[stage] - ee
        distance = jnp.linalg.norm(gap)
        speed = jnp.where(stage == 2, jnp.minimum(carry.speed, 6.0 * distance), carry.speed)
        wanted = speed * gap / jnp.maximum(distance, 1e-6)
        velocity = carry.velocity + SMOOTHING * (wanted - carry.velocity)
        homing = POSTURE_RATE * (jnp.asarray(robot.home) - obs[:d])
        change = joint_step(pose, velocity, homing)
        return carry.replace(stage=stage, velocity=velocity), change / config.action_scale

    def init(obs: jax.Array) -> Carry:
        return jax.tree.map(jnp.zeros_like, draw(jax.random.key(0), obs[:, -2:], obs[:, :3]))

    def act(carry: Carry, obs: jax.Array, key: Key):
        key_draw, key_noise = jax.random.split(key)
        started = carry.started

        def keep(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(started.reshape((-1,) + (1,) * (old.ndim - 1)), old, new)

        pose = jax.vmap(look)(obs)
        velocity = jnp.einsum('nij,nj->ni', pose.jacobian, obs[:, d : 2 * d])
        carry = jax.tree.map(keep, carry, draw(key_draw, obs[:, -2:], velocity))
        carry, action = jax.vmap(steer)(carry, obs, pose)
        action += ACTION_NOISE * jax.random.normal(key_noise, action.shape)
        return carry, jnp.clip(action, -1.0, 1.0), {}

    return Policy(init, act)
