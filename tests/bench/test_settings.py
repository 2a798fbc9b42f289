"""The benchmark of settings that share a program."""

from tests import fork


def test_it_times_settings_beside_the_run_alone():
    flags = ['--config=configs/smoke/ppo.py', '--settings=2', '--repeats=1']
    done = fork.run('bench.settings', *flags)
    assert done.returncode == 0, done.stderr
    head, alone, two = done.stdout.strip().splitlines()
    assert head.split()[0] == 'settings' and alone.split()[0] == 'alone'
    assert two.split()[0] == '2' and float(alone.split()[-1]) == 1.0
    done = fork.run('bench.settings', flags[0], '--field=hidden')
    assert done.returncode == 1 and '--field: expected a number of config.agent' in done.stderr
