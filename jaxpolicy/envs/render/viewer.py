# pyright: reportAttributeAccessIssue=false
# (MuJoCo and GLFW are without type stubs.)
"""Shows an arm and its task in MuJoCo's viewer, and reads a person's keys and gamepad."""

import threading
import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.render import pictures
from jaxpolicy.envs.tasks import parts
from jaxpolicy.types import EnvState


class Window:
    """Draws states of `detour` and `reach`.

    Args:
      module, config: the task's module and its Config.
      press: called with GLFW's code of each key that is pressed.
    """

    def __init__(self, module: Any, config: Any, press: Callable[[int], None]):
        self._module, self._config, self._press = module, config, press
        self._model = arm.make(config.num_dof, module.HOME).model
        self._data = mujoco.MjData(self._model)
        self._viewer: Any = None
        self._threads: list[threading.Thread] = []  # the viewer's
        self._next = 0.0  # when the next picture is due

    def open(self) -> None:
        """Opens the window.

        Raises:
          RuntimeError: there is no screen.
        """
        import glfw
        import mujoco.viewer

        self._glfw = glfw
        screen = glfw.init()
        glfw.terminate()  # the viewer initialises it again, in a thread of its own
        if not screen:
            raise RuntimeError('no screen to open a window on; run this where you can see it')
        before = threading.enumerate()
        self._viewer = mujoco.viewer.launch_passive(
            self._model,
            self._data,
            key_callback=self._press,
            show_left_ui=False,
            show_right_ui=False,
        )
        self._threads = [each for each in threading.enumerate() if each not in before]
        pictures.aim(self._viewer.cam)

    def close(self) -> None:
        """Closes the window, and waits until the viewer's threads have ended."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(timeout=10.0)

    def is_open(self) -> bool:
        """Whether the window is open; False once the person has closed it."""
        return self._viewer.is_running()

    def show(self, state: EnvState) -> None:
        """Draws one robot's state, at the pace of simulated time."""
        sim = parts.find(state.sim, self._module.Sim)
        self._data.qpos[:] = np.asarray(sim.body.qpos)
        mujoco.mj_forward(self._model, self._data)
        self._viewer.user_scn.ngeom = 0
        pillar, size = None, (0.0, 0.0)
        if self._module.__name__.endswith('detour'):
            pillar, size = sim.pillar, (self._config.pillar_radius, self._config.pillar_height)
        pictures.draw_task(self._viewer.user_scn, sim.goal, pillar, size)
        self._viewer.sync()
        time.sleep(max(0.0, self._next - time.perf_counter()))
        self._next = time.perf_counter() + arm.CONTROL_DT

    def gamepad(self) -> tuple[tuple[float, ...], bool]:
        """The axes of the first gamepad, () without one, and whether its first button is down."""
        pad = self._glfw.JOYSTICK_1
        if not self._glfw.joystick_present(pad):
            return (), False
        values, count = self._glfw.get_joystick_axes(pad)
        buttons, num_buttons = self._glfw.get_joystick_buttons(pad)
        return tuple(values[i] for i in range(count)), num_buttons > 0 and buttons[0] == 1
