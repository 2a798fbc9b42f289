"""Progress where there is no terminal, and where there is one."""

import io
import time

from jaxpolicy.io import progress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_without_a_terminal():
    stream = io.StringIO()
    with progress.Progress(total=10, done=2, unit='round', every_s=3600, stream=stream) as bar:
        for done in range(3, 11):
            bar.update(done, {'updates': 1_000 * done, 'env_steps': 0})
            bar.evaluation({'success': 0.5})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2, 'the first and the last'
    assert lines[0].startswith('3/10 rounds, ') and lines[0].endswith(' s left, 3,000 updates')
    assert lines[1].startswith('10/10 rounds, ')
    assert lines[1].endswith(' 0 s left, 10,000 updates | success 0.5')


def test_one_live_line_in_a_terminal():
    stream = _Terminal()
    with progress.Progress(total=10, done=2, stream=stream) as bar:
        bar.evaluation({'success': 0.25})
        for done in range(3, 11):
            bar.update(done)
    text = stream.getvalue()
    assert text.count('\n') == 1 and text.endswith('\n')
    last = text.split('\r')[-1]
    assert '10/10 steps' in last and 'success 0.25' in last


def test_what_is_apart_is_said_and_counts_in_no_rate(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(progress, '_SILENT_S', 0.01)
    stream = io.StringIO()
    with progress.Progress(total=10, unit='round', stream=stream) as bar:
        with bar.apart('compiling the update'):
            clock[0] += 40.0
            while not stream.getvalue():
                time.sleep(0.01)
        bar.update(0)  # the device still computes the first one: no estimate can be right
        clock[0] += 2.0
        bar.update(1)
    said, took, line = stream.getvalue().splitlines()
    assert said == 'compiling the update, 40 s so far' and took == 'compiling the update took 40 s'
    assert line == '1/10 rounds, 0.5/s, 18 s left'


def test_what_is_over_at_once_is_not_said():
    stream = io.StringIO()
    with progress.Progress(total=10, stream=stream) as bar, bar.apart('compiling'):
        pass
    assert not stream.getvalue()
