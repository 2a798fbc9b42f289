"""The demo from end to end, at toy size."""

import json

import pytest

from tests import fork


@pytest.mark.slow
def test_the_demo_writes_its_report(tmp_path):
    overrides = {
        'loop.num_epochs': 1,
        'loop.batch_size': 64,
        'loop.num_env_steps': 1,
        'loop.num_envs': 8,
        'eval.num_episodes': 8,
        'agent.width': 16,
    }
    arguments = [f'--override={key}={value}' for key, value in overrides.items()]
    arguments += [f'--workdir={tmp_path}', '--num_demos=20']
    done = fork.run('demo', *arguments, timeout=900)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / 'report.json').read_text())
    assert set(numbers) == {'BC (MSE)', 'BC (mixture)', 'Diffusion', 'PPO'}
    assert all(row['summary']['success_max']['n'] == 8 for row in numbers.values())
    page = (tmp_path / 'report.html').read_text()
    assert page.count('<img') == 2 and 'http' not in page.replace('http-equiv', '')
