"""Progress where there is no terminal, and where there is one."""

import io

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


def test_a_bar_in_a_terminal():
    stream = _Terminal()
    with progress.Progress(total=10, done=2, stream=stream) as bar:
        bar.evaluation({'success': 0.25})
        bar.update(10)
    last = stream.getvalue().split('\r')[-1]
    assert '10/10' in last and 'success 0.25' in last and '100%' in last
