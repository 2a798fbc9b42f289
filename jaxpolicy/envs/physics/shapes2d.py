"""Where Push-T's shapes touch: the agent (a disc), the block (two rectangles) and four walls.

These are the contacts that Chipmunk 7 finds (`cpCollision.c`, which we read but did not copy). In
place of its GJK and EPA they are computed in closed form, for a point and a rectangle and for a
segment and a rectangle. Every function takes arrays whose *trailing* axes are the batch. Lengths
are in px, angles in rad.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

AGENT_RADIUS = 15.0
WALL_RADIUS = 2.0
ROOM_CENTRE, ROOM_HALF = 255.5, 250.5  # the walls' middle lines are at 5 and 506 px
# Two rectangles, the bar and the stem of the T, around the block's centre of mass: lowest x and y,
# highest x and y. The block's origin is the middle of the bar's upper edge.
CENTRE_OF_MASS = (0.0, 45.0)  # from the origin
BOXES = np.array([[-60.0, 0.0, 60.0, 30.0], [-15.0, 30.0, 15.0, 120.0]]) - np.tile(
    CENTRE_OF_MASS, 2
)


class Contacts(NamedTuple):
    """Contacts, those of the agent first; [10, ...] each when all are joined."""

    normal: jax.Array  # [2, 10, ...], the direction in which the block is pushed
    lever: jax.Array  # px, around the centre of mass
    gap: jax.Array  # px, negative where shapes overlap
    active: jax.Array  # bool


def agent_contacts(agent: jax.Array, pose: jax.Array, axes: jax.Array) -> Contacts:
    """The 2 contacts of the agent [2, ...] with the nearest point of each rectangle."""
    cos, sin = axes
    dx, dy = agent - pose[:2]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx  # the agent in the block's frame
    low_x, low_y, high_x, high_y = (_column(BOXES[:, i], x) for i in range(4))
    nearest_x, nearest_y = jnp.clip(x, low_x, high_x), jnp.clip(y, low_y, high_y)
    away_x, away_y = nearest_x - x, nearest_y - y
    square = away_x**2 + away_y**2
    inside = square == 0.0
    distance = jnp.sqrt(jnp.where(inside, 1.0, square))
    # An agent inside a rectangle leaves by the nearest side, and pushes the block against the
    # outward normal of that side.
    right, top = high_x - x < x - low_x, high_y - y < y - low_y
    depth_x, depth_y = (
        jnp.where(right, high_x - x, x - low_x),
        jnp.where(top, high_y - y, y - low_y),
    )
    by_x = depth_x < depth_y
    normal_x = jnp.where(by_x, jnp.where(right, -1.0, 1.0), 0.0)
    normal_y = jnp.where(by_x, 0.0, jnp.where(top, -1.0, 1.0))
    normal_x = jnp.where(inside, normal_x, away_x / distance)
    normal_y = jnp.where(inside, normal_y, away_y / distance)
    nearest_x = jnp.where(inside & by_x, jnp.where(right, high_x, low_x), nearest_x)
    nearest_y = jnp.where(inside & ~by_x, jnp.where(top, high_y, low_y), nearest_y)
    distance = jnp.where(inside, -jnp.minimum(depth_x, depth_y), distance)
    return Contacts(
        normal=jnp.stack([cos * normal_x - sin * normal_y, sin * normal_x + cos * normal_y]),
        lever=nearest_x * normal_y - nearest_y * normal_x,
        gap=distance - AGENT_RADIUS,
        active=distance <= AGENT_RADIUS,
    )


def _column(values: np.ndarray, like: jax.Array) -> jax.Array:
    """Numbers [n] as [n, 1, ...], to be combined with `like` [...]."""
    return jnp.asarray(values, like.dtype).reshape(-1, *(1,) * like.ndim)


def wall_contacts(pose: jax.Array, axes: jax.Array) -> tuple[Contacts, jax.Array]:
    """Up to two contacts of each rectangle with the nearer wall of each axis: 8 contacts.

    The block never meets both walls of an axis, because the room is wider than the block. Each wall
    has a frame of its own, a turned copy of the world's: h is the height over the wall's middle
    line, and s goes along it. The order is (x, bar), (x, stem), (y, bar), (y, stem), two each.

    Returns:
      The contacts, and which corners met [8, ...] int32.
    """
    cos, sin = axes
    x, y = pose[0] - ROOM_CENTRE, pose[1] - ROOM_CENTRE
    side = jnp.where(jnp.stack([x, y]) < 0.0, 1.0, -1.0).astype(pose.dtype)  # [2, ...]
    h_axis = side * jnp.stack([cos, sin])  # h and s components of the block's x axis
    s_axis = side * jnp.stack([sin, -cos])
    h_centre = ROOM_HALF + side * jnp.stack([x, y])
    s_centre = side * jnp.stack([y, -x])
    corner = BOXES[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]  # [2, 4, 2], counter-clockwise
    shape = (1, 2, 4, *(1,) * x.ndim)
    cx, cy = (jnp.asarray(corner[..., i], x.dtype).reshape(shape) for i in range(2))
    ha, sa, hc, sc = (a[:, None, None] for a in (h_axis, s_axis, h_centre, s_centre))
    h = hc + ha * cx - sa * cy  # [2 axes, 2 rectangles, 4 corners, ...]
    s = sc + sa * cx + ha * cy
    # Outward normals of the sides from corner k to k + 1: -y, x, y, -x of the block.
    out_h = jnp.stack([s_axis, h_axis, -s_axis, -h_axis], axis=1)[:, None]  # [2, 1, 4, ...]
    out_s = jnp.stack([-h_axis, s_axis, h_axis, -s_axis], axis=1)[:, None]
    normal_h, normal_s, distance = _separate(h, s, out_h, out_s)
    height, along, gap, corners = _clip(h, s, out_h, out_s, normal_h, normal_s)
    lever = (height - h_centre[:, None, None]) * normal_s[:, :, None]
    lever -= (along - s_centre[:, None, None]) * normal_h[:, :, None]
    active = (gap <= 0.0) & (distance <= WALL_RADIUS)[:, :, None]
    turn = side[:, None]
    normal = jnp.stack(
        [
            turn * jnp.stack([normal_h[0], -normal_s[1]]),
            turn * jnp.stack([normal_s[0], normal_h[1]]),
        ]
    )
    normal = jnp.repeat(normal.reshape(2, 4, *x.shape), 2, axis=1)
    feature = corners + 8 * (side > 0.0).astype(jnp.int32)[:, None, None]
    rows = (a.reshape(8, *x.shape) for a in (lever, gap, active))
    return Contacts(normal, *rows), feature.reshape(8, *x.shape)


def _separate(h, s, out_h, out_s) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The smallest move that parts each rectangle from its wall: normal (h, s) and distance.

    It leads to the point nearest to the origin on the boundary of the Minkowski difference. That is
    a hexagon: the four sides of the rectangle, and its lowest and highest corners dragged along the
    wall.
    """
    length = jnp.asarray([120.0, 30.0, 120.0, 30.0, 30.0, 90.0, 30.0, 90.0], h.dtype)
    length = length.reshape(1, 2, 4, *(1,) * (h.ndim - 3))
    # A side starts at a corner, moved by the end of the wall that is furthest along the normal.
    end = s + jnp.where(out_s > 0.0, ROOM_HALF, -ROOM_HALF)
    depth = h * out_h + end * out_s
    t = jnp.clip(h * out_s - end * out_h, 0.0, length)
    ph, ps = h - t * out_s, end + t * out_h
    slides = (t > 0.0) & (t < length)
    out_h, out_s = jnp.broadcast_to(out_h, h.shape), jnp.broadcast_to(out_s, h.shape)
    sides = [tuple(a[:, :, k] for a in (ph, ps, depth, slides, out_h, out_s)) for k in range(4)]
    one, zero = jnp.ones_like(h[:, :, 0]), jnp.zeros_like(h[:, :, 0])
    for sign in (-1.0, 1.0):  # the lowest corner, then the highest
        best_h, best_s = h[:, :, 0], s[:, :, 0]
        for k in range(1, 4):
            better = sign * h[:, :, k] > sign * best_h
            best_h = jnp.where(better, h[:, :, k], best_h)
            best_s = jnp.where(better, s[:, :, k], best_s)
        ps = best_s - jnp.clip(best_s, -ROOM_HALF, ROOM_HALF)
        sides.append((best_h, ps, sign * best_h, ps == 0.0, sign * one, zero))
    square, *found = _nearest(*sides[0])
    for side in sides[1:]:
        other, *new = _nearest(*side)
        found = [jnp.where(other < square, a, b) for a, b in zip(new, found, strict=True)]
        square = jnp.minimum(other, square)
    return found[0], found[1], found[2]


def _nearest(ph, ps, depth, slides, nh, ns):
    """The squared distance from the origin to a side's nearest point, normal (h, s), distance."""
    square = ph**2 + ps**2
    radius = jnp.sqrt(jnp.where(square == 0.0, 1.0, square))
    flat = (depth >= 0.0) | slides  # else two corners meet
    normal_h, normal_s = jnp.where(flat, -nh, ph / radius), jnp.where(flat, -ns, ps / radius)
    return square, normal_h, normal_s, jnp.where(flat, -depth, radius)


def _clip(h, s, out_h, out_s, normal_h, normal_s):
    """The two pairs of points where a rectangle's facing side and its wall overlap.

    Returns:
      The points on the rectangle (h, s), their gaps to the wall's surface, and which corners met,
      [2, 2, 2, ...] each.
    """
    facing = -(out_h * normal_h[:, :, None] + out_s * normal_s[:, :, None])
    best = facing[:, :, 0]
    ends = tuple(a[:, :, k] for a in (h, s) for k in (0, 1))
    index = jnp.zeros(best.shape, jnp.int32)
    for k in range(1, 4):
        better = facing[:, :, k] > best
        best = jnp.where(better, facing[:, :, k], best)
        new = tuple(a[:, :, j] for a in (h, s) for j in (k, (k + 1) % 4))
        ends = tuple(jnp.where(better, a, b) for a, b in zip(new, ends, strict=True))
        index = jnp.where(better, k, index)
    ha, hb, sa, sb = ends
    up = normal_h > 0.0
    wall_a = jnp.where(up, -ROOM_HALF, ROOM_HALF)  # s of the wall's first end; the other is minus
    c1 = -wall_a * normal_h  # along the contact: positions of the wall's first end and of the side
    ca, cb = ha * normal_s - sa * normal_h, hb * normal_s - sb * normal_h
    inverse = 1.0 / jnp.where(cb - ca == 0.0, 1.0, cb - ca)
    wall_inverse = 1.0 / jnp.where(c1 == 0.0, 1.0, -2.0 * c1)
    points = []
    for wall_end, own in ((c1, cb), (-c1, ca)):
        t_wall = jnp.clip((own - c1) * wall_inverse, 0.0, 1.0)
        t = jnp.clip((wall_end - ca) * inverse, 0.0, 1.0)
        ph, ps = ha + t * (hb - ha), sa + t * (sb - sa)
        gap = ph * normal_h + (ps - wall_a * (1.0 - 2.0 * t_wall)) * normal_s - WALL_RADIUS
        points.append((ph, ps, gap))
    up = up.astype(jnp.int32)
    corners = [4 * (1 - up) + (index + 1) % 4, 4 * up + index]
    points = (jnp.stack(group, axis=2) for group in zip(*points, strict=True))
    return *points, jnp.stack(corners, axis=2)
