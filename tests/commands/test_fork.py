"""What the tests' server of processes has imported: it hides what it cannot import."""

import sys

from jax._src import xla_bridge

from tests import fork


def _report(queue):
    """In a forked process."""
    missing = [name for name in fork.PRELOAD if name not in sys.modules]
    queue.put((missing, xla_bridge.backends_are_initialized()))


def test_processes_begin_with_all_imports_and_without_a_device():
    queue = fork.SERVER.SimpleQueue()
    process = fork.SERVER.Process(target=_report, args=(queue,), daemon=True)
    process.start()
    missing, has_device = queue.get()
    process.join(60)
    assert not missing and not has_device
