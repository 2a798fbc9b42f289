"""The demo from end to end, at toy size."""

import json
from types import SimpleNamespace

import pytest

from experiments import demo
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import fingerprint
from jaxpolicy.runs import demonstrators
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


def test_demonstrations_are_taken_again_only_if_they_are_the_same(tmp_path, monkeypatch):
    """On the line, which compiles in no time."""
    scripted = demonstrators.scripted
    line = lambda name, changes: scripted('tests.commands.line', changes)  # noqa: E731
    monkeypatch.setattr(demonstrators, 'scripted', line)

    def collect_once(num_demos=4, seed=0, override=()):
        flags = SimpleNamespace(num_demos=num_demos, seed=seed, override=list(override))
        monkeypatch.setattr(demo, 'FLAGS', flags)
        demo.collect_once(tmp_path / 'demos.npz')

    collect_once(override=['env.speed=0.25', 'loop.num_epochs=1'])
    found = episodes_lib.load(tmp_path / 'demos.npz')
    assert json.loads(str(found.info['env_fields']))['speed'] == 0.25
    monkeypatch.setattr(demo.collect, 'collect', None)  # not called
    collect_once(override=['env.speed=0.25'])
    for other in ({'seed': 1}, {'num_demos': 5}, {'override': ['env.speed=0.2']}):
        with pytest.raises(ValueError, match='--workdir: expected demonstrations of this task and'):
            collect_once(**{'override': ['env.speed=0.25'], **other})
    monkeypatch.setattr(fingerprint, 'of_code', lambda: 'another version')
    with pytest.raises(ValueError, match='by this code, found others in'):
        collect_once(override=['env.speed=0.25'])
