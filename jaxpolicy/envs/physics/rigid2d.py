"""Chipmunk's contact physics in array form, for Push-T: one block of two rectangles in a room.

The block (dynamic) meets a round agent (kinematic: it moves as told) and four walls. All contacts
are without friction and without bounce, and velocities are forgotten after each step (Chipmunk's
damping 0). What is left of Chipmunk 7 (`cpSpaceStep`, `cpCollision`, `cpArbiter`, which we read but
did not copy) are these steps, in its order:

  1. Positions move by the velocities and the bias velocities that the last step solved for.
  2. Contacts are found: one per agent and rectangle, up to two per wall and rectangle.
  3. A contact that was there one step ago starts with its last impulse, which is applied again. A
     contact that was away for one or two steps starts with its last impulse, which is not applied.
     Any other contact starts from zero.
  4. Projected Gauss-Seidel sweeps over the contacts ten times. It solves for the velocities, so
     that the approaching speed becomes zero, and for the bias velocities, so that overlap beyond
     the slop shrinks.

Every function takes arrays whose *trailing* axes are the batch, so that the innermost axis is long:
[2, ...] is a vector per world, a plain [...] a number per world. Lengths in px, angles in rad.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxpolicy.envs.physics import shapes2d

DT = 0.01  # s
ITERATIONS = 10  # sweeps per step
BIAS = 1.0 - (0.9**60) ** DT  # share of the overlap that is taken away per step
SLOP = 0.1  # px of overlap that is left alone
PERSISTENCE = 3  # steps for which an impulse is remembered

INVERSE_MOMENT = 1.0 / 3000.0  # of the block; its mass is 1
NUM_ARBITERS, NUM_CONTACTS = 6, 10  # 2 pairs agent-rectangle of 1 contact, 4 wall-rectangle of 2
ORDER = (2, 3, 6, 7, 4, 5, 8, 9, 1, 0)  # of contacts in a sweep: walls, agent on stem, agent on bar


class World(struct.PyTreeNode):
    """The physics' state."""

    agent: jax.Array  # [2, ...] px
    agent_velocity: jax.Array  # [2, ...] px/s
    pose: jax.Array  # [3, ...] of the block: centre of mass (px), angle
    velocity: jax.Array  # [3, ...] of the block, per s
    bias: jax.Array  # [3, ...] the velocity that corrects overlaps, for one step
    impulse: jax.Array  # [10, ...], of each contact when it was last there
    feature: jax.Array  # [8, ...] int32, which corners met at each wall contact, or -1
    age: jax.Array  # [6, ...] int32, steps since each pair last touched


def start(agent: jax.Array, pose: jax.Array) -> World:
    """A world at rest that has had no contacts yet."""
    batch, dtype = agent.shape[1:], agent.dtype
    return World(
        agent=agent,
        agent_velocity=jnp.zeros_like(agent),
        pose=pose,
        velocity=jnp.zeros_like(pose),
        bias=jnp.zeros_like(pose),
        impulse=jnp.zeros((NUM_CONTACTS, *batch), dtype),
        feature=jnp.full((8, *batch), -1, jnp.int32),
        age=jnp.full((NUM_ARBITERS, *batch), PERSISTENCE + 1, jnp.int32),
    )


def step(world: World) -> World:
    """One step of 0.01 s, in which the agent moves with its velocity."""
    agent = world.agent + DT * world.agent_velocity
    pose = world.pose + DT * (world.velocity + world.bias)
    axes = jnp.stack([jnp.cos(pose[2]), jnp.sin(pose[2])])
    touch = shapes2d.agent_contacts(agent, pose, axes)
    wall, feature = shapes2d.wall_contacts(pose, axes)
    contacts = shapes2d.Contacts(
        jnp.concatenate([touch.normal, wall.normal], axis=1),
        *(jnp.concatenate(pair) for pair in zip(touch[1:], wall[1:], strict=True)),
    )
    active = contacts.active
    touching = jnp.concatenate([active[:2], active[2::2] | active[3::2]])  # [6, ...]
    known = _pairs(world.age <= PERSISTENCE)
    impulse = jnp.where(known & active, _remembered(world, feature), 0.0)
    applied = jnp.where(_pairs(world.age == 1), impulse, 0.0)
    drive = contacts.normal[0] * world.agent_velocity[0]
    drive += contacts.normal[1] * world.agent_velocity[1]
    drive = drive.at[2:].set(0.0)
    velocity, bias, impulse = solve(contacts, drive, impulse, applied)
    keep = ~_pairs(touching)
    return World(
        agent=agent,
        agent_velocity=world.agent_velocity,
        pose=pose,
        velocity=velocity,
        bias=bias,
        impulse=jnp.where(keep, world.impulse, impulse),
        feature=jnp.where(keep[2:], world.feature, jnp.where(active[2:], feature, -1)),
        age=jnp.where(touching, 1, world.age + 1),
    )


def _pairs(x: jax.Array) -> jax.Array:
    """Repeats values of the pairs of shapes [6, ...] for each of their contacts, [10, ...]."""
    return jnp.concatenate([x[:2], jnp.repeat(x[2:], 2, axis=0)])


def _remembered(world: World, feature: jax.Array) -> jax.Array:
    """The last impulse of each contact between the same corners, 0 for new contacts; [10, ...]."""
    old, old_feature = world.impulse[2:], world.feature
    other, other_feature = _swap(old), _swap(old_feature)
    found = jnp.where(feature == other_feature, other, 0.0)
    found = jnp.where(feature == old_feature, old, found)
    return jnp.concatenate([world.impulse[:2], found])


def _swap(x: jax.Array) -> jax.Array:
    """Swaps the two contacts of each pair of wall and rectangle, [8, ...]."""
    return x.reshape(4, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def solve(contacts: shapes2d.Contacts, drive: jax.Array, impulse: jax.Array, applied: jax.Array):
    """Ten sweeps of projected Gauss-Seidel from rest.

    Args:
      drive: [10, ...] px/s, speed of the other shape along the normals.
      impulse: [10, ...], impulses from which the contacts start.
      applied: [10, ...], the part of these impulses that already acts on the block.

    Returns:
      velocity [3, ...], bias velocity [3, ...] and impulses [10, ...].
    """
    nx, ny = contacts.normal
    lever = contacts.lever
    mass = jnp.where(contacts.active, 1.0 / (1.0 + INVERSE_MOMENT * lever**2), 0.0)
    fix = -(BIAS / DT) * jnp.minimum(contacts.gap + SLOP, 0.0)
    target = jnp.stack([drive, fix], axis=1)  # [10, 2, ...]
    total = jnp.stack([impulse, jnp.zeros_like(impulse)], axis=1)  # [10, 2, ...]
    push = (nx, ny, INVERSE_MOMENT * lever)
    at_first = [(p * applied).sum(0) for p in push]
    velocity = tuple(jnp.stack([v, jnp.zeros_like(v)]) for v in at_first)  # 3 of [2, ...]

    def sweep(_, carry):
        velocity, total = carry
        totals = list(total)
        for i in ORDER:
            speed = nx[i] * velocity[0] + ny[i] * velocity[1] + lever[i] * velocity[2]
            new = jnp.maximum(total[i] + (target[i] - speed) * mass[i], 0.0)
            velocity = tuple(
                v + p[i] * (new - total[i]) for v, p in zip(velocity, push, strict=True)
            )
            # Without this barrier, XLA's CPU fusion computes every row anew for each later row.
            totals[i], velocity = jax.lax.optimization_barrier((new, velocity))
        return velocity, jnp.stack(totals)

    velocity, total = jax.lax.fori_loop(0, ITERATIONS, sweep, (velocity, total))
    velocity = jnp.stack(velocity)  # [3, 2, ...]
    return velocity[:, 0], velocity[:, 1], total[:, 0]
