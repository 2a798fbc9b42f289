# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Pictures of the arm and its task, drawn by MuJoCo's own renderer.

Without a display it needs EGL (`jaxpolicy.envs` sets MUJOCO_GL=egl) or OSMesa; see BUILD.md.
"""

import os
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np


def draw(scene: mujoco.MjvScene, shape: Any, size: Sequence[float], pos: Any, rgba: Any) -> None:
    """Adds one shape to a scene."""
    geom = scene.geoms[scene.ngeom]
    pos, upright = np.asarray(pos, np.float64), np.eye(3).ravel()
    mujoco.mjv_initGeom(geom, shape, np.asarray(size, np.float64), pos, upright, np.float32(rgba))
    scene.ngeom += 1


def aim(camera: Any, distance: float = 1.5) -> None:
    """Points a camera at the arm's workspace, from `distance` m away."""
    camera.lookat[:] = (0.33, 0.0, 0.32)
    camera.distance, camera.azimuth, camera.elevation = distance, 145.0, -28.0


def draw_task(
    scene: mujoco.MjvScene,
    goal: Any,
    pillar: Any | None,
    pillar_size: tuple[float, float],
    goal_radius: float = 0.05,
) -> None:
    """Adds a goal [3] and, where there is one, a pillar [2] to a scene; lengths in m."""
    kind = mujoco.mjtGeom
    draw(scene, kind.mjGEOM_SPHERE, (goal_radius, 0, 0), goal, (0.1, 0.75, 0.3, 0.5))
    if pillar is not None:
        radius, height = pillar_size
        half = (height - radius) / 2
        centre = (*np.asarray(pillar), half)
        draw(scene, kind.mjGEOM_CAPSULE, (radius, half, 0), centre, (0.85, 0.25, 0.2, 1))


def open_renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    """Opens MuJoCo's renderer, as a context.

    Raises:
      RuntimeError: there is no OpenGL here.
    """
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # of MuJoCo, GLFW or EGL, whichever fails first
        found = os.environ.get('MUJOCO_GL', 'not set')
        raise RuntimeError(
            f'no OpenGL to draw with: MUJOCO_GL is {found} ({error}); see BUILD.md, "Rendering '
            'without a display"'
        ) from error


def render(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    goal: np.ndarray,
    pillar: np.ndarray | None,
    pillar_size: tuple[float, float],
    shape: tuple[int, int],
    goal_radius: float = 0.05,
    distance: float = 1.5,
) -> np.ndarray:
    """Pictures of the arm with its goal and, where there is one, a pillar.

    Args:
      qpos: [T, nq], positions of the model.
      goal: [T, 3] m, drawn as a sphere.
      pillar: [T, 2] m, where its axis meets the floor, or None.
      pillar_size: radius and height in m; the top is rounded.
      shape: height and width in pixels, at most 960 x 1280.
      goal_radius: m.
      distance: m, of the camera from the workspace.

    Returns:
      uint8 [T, H, W, 3].

    Raises:
      RuntimeError: there is no OpenGL here.
    """
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    aim(camera, distance)
    frames = []
    with open_renderer(model, *shape) as renderer:
        for t in range(len(qpos)):
            data.qpos[:] = qpos[t]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            renderer.update_scene(data, camera)
            at = None if pillar is None else pillar[t]
            draw_task(renderer.scene, goal[t], at, pillar_size, goal_radius)
            frames.append(renderer.render())
    return np.stack(frames)
