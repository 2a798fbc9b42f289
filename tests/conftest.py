"""Sets JAX up before anything imports it: CPU, eight devices, quick compilation and its cache."""

import os
import pathlib
import sys

from tests import quick

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_DEVICES = (
    '--xla_force_host_platform_device_count=8'
    # Eight devices share two cores, and XLA aborts a process in which one of them waits too long
    # for another, which a busy machine may cause.
    ' --xla_cpu_collective_call_terminate_timeout_seconds=600'
)

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'{_DEVICES} {quick.XLA_FLAGS} {os.environ.get("XLA_FLAGS", "")}'.strip()
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_ROOT / '.cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.02')
if sys.platform == 'linux' and 'DISPLAY' not in os.environ:
    os.environ.setdefault('MUJOCO_GL', 'egl')
os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')

import pytest  # noqa: E402

pytest_plugins = ['tests.demos']


@pytest.fixture(scope='session')
def data_dir() -> pathlib.Path:
    """The folder of real data sets; a test that asks for it skips where there is none."""
    folder = pathlib.Path(os.environ.get('JAXPOLICY_DATA', _ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data: {folder} is not a folder (JAXPOLICY_DATA names it)')
    return folder


# Folders of files that take long. They come first, so that no process ends long after the others.
_LONG = ('commands', 'contract', 'learned', 'runs', 'bench', 'studies')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of some folders first; `--no-loadscope-reorder` has xdist keep this order."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(_ROOT / 'tests').parts[0]
        return _LONG.index(folder) if folder in _LONG else len(_LONG)

    items.sort(key=rank)
