"""A screen, a keyboard and perhaps a gamepad, with which a person watches and steers an arm."""

from typing import Any, NamedTuple

from jaxpolicy import types
from jaxpolicy.envs.render import viewer

SPEED = 0.25  # m/s of the tip
STICK = 0.15  # deflection of a gamepad's stick below which it counts as at rest
SPACE, ESCAPE, BACKSPACE, STOP = 32, 256, 259, 46  # GLFW's codes; STOP is the full stop
MOVES = {  # key: direction of the tip
    265: (1.0, 0.0, 0.0),  # up
    264: (-1.0, 0.0, 0.0),  # down
    263: (0.0, 1.0, 0.0),  # left
    262: (0.0, -1.0, 0.0),  # right
    266: (0.0, 0.0, 1.0),  # page up
    267: (0.0, 0.0, -1.0),  # page down
}


class Command(NamedTuple):
    """What the person wants now."""

    takeover: bool = False
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m/s, of the tip
    skip: bool = False  # go to the next episode
    quit: bool = False


class Keys:
    """Turns the keys that a person presses one after another into commands."""

    def __init__(self):
        self._takeover, self._direction = False, (0.0, 0.0, 0.0)
        self._skip = self._quit = False

    def press(self, key: int) -> None:
        """Takes note of a key, GLFW's code, that was pressed."""
        if key == SPACE:
            self._takeover, self._direction = not self._takeover, (0.0, 0.0, 0.0)
        elif key == STOP:
            self._direction = (0.0, 0.0, 0.0)
        elif key in MOVES:
            self._direction = MOVES[key]
        self._skip |= key == BACKSPACE
        self._quit |= key == ESCAPE

    def command(self, axes: tuple[float, ...] = ()) -> Command:
        """The command so far; a gamepad's axes replace the keys' direction unless they rest."""
        x, y, z = (SPEED * d for d in self._direction)
        if len(axes) >= 4 and max(abs(a) for a in axes[:4]) > STICK:
            x, y, z = -SPEED * axes[1], -SPEED * axes[0], -SPEED * axes[3]
        skip, self._skip = self._skip, False
        return Command(self._takeover, (x, y, z), skip, self._quit)


class Screen:
    """MuJoCo's viewer with a person at it, as a context; it keeps the pace of simulated time."""

    def __init__(self, module: Any, config: Any):
        self._keys, self._button = Keys(), False
        self._window = viewer.Window(module, config, self._keys.press)

    def __enter__(self):
        self._window.open()
        return self

    def __exit__(self, *unused) -> None:
        self._window.close()

    def show(self, state: types.EnvState) -> None:
        """Draws one robot's state, and waits until its time has come."""
        self._window.show(state)

    def command(self) -> Command:
        """What the person wants now; a closed window means to quit."""
        axes, button = self._window.gamepad()
        if button and not self._button:
            self._keys.press(SPACE)
        self._button = button
        return self._keys.command(axes) if self._window.is_open() else Command(quit=True)
