"""A screen, a keyboard and perhaps a gamepad, to watch an arm and to steer it."""

from typing import Any, NamedTuple

from jaxpolicy import types
from jaxpolicy.envs.render import window

SPEED = 0.25  # m/s of the tip
STICK = 0.15  # of a gamepad's stick, below which it rests
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
    skip: bool = False  # the next episode
    quit: bool = False


class Keys:
    """Commands from keys that are pressed, one after another."""

    def __init__(self):
        self._takeover, self._direction = False, (0.0, 0.0, 0.0)
        self._skip = self._quit = False

    def press(self, key: int) -> None:
        """A key was pressed."""
        if key == SPACE:
            self._takeover, self._direction = not self._takeover, (0.0, 0.0, 0.0)
        elif key == STOP:
            self._direction = (0.0, 0.0, 0.0)
        elif key in MOVES:
            self._direction = MOVES[key]
        self._skip |= key == BACKSPACE
        self._quit |= key == ESCAPE

    def command(self, axes: tuple[float, ...] = ()) -> Command:
        """What the keys say by now; a gamepad's axes count where they do not rest."""
        x, y, z = (SPEED * d for d in self._direction)
        if len(axes) >= 4 and max(abs(a) for a in axes[:4]) > STICK:
            x, y, z = -SPEED * axes[1], -SPEED * axes[0], -SPEED * axes[3]
        skip, self._skip = self._skip, False
        return Command(self._takeover, (x, y, z), skip, self._quit)


class Screen:
    """A person at MuJoCo's viewer, as a context; it keeps the pace of simulated time."""

    def __init__(self, module: Any, config: Any):
        self._keys, self._button = Keys(), False
        self._window = window.Window(module, config, self._keys.press)

    def __enter__(self):
        self._window.open()
        return self

    def __exit__(self, *unused) -> None:
        self._window.close()

    def show(self, state: types.EnvState) -> None:
        """Draws one robot's state, then waits for its time."""
        self._window.show(state)

    def command(self) -> Command:
        """What the person wants now; a closed window is the end."""
        axes, button = self._window.gamepad()
        if button and not self._button:
            self._keys.press(SPACE)
        self._button = button
        return self._keys.command(axes) if self._window.is_open() else Command(quit=True)
