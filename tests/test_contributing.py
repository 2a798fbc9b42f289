"""The files that CONTRIBUTING.md shows, written to a folder and used as it says."""

import pathlib
import re
import sys

import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import metrics, recipe_file, settings
from jaxpolicy.loops import collect
from jaxpolicy.runs import dataset, demonstrators, kinds, launch

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the package `mylab`, from which Python imports."""
    top = tmp_path_factory.mktemp('contributing')
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    files = re.findall(r'<!-- file: (\S+) -->\s*```python\n(.*?)```', text, re.DOTALL)
    assert len(files) >= 8
    (top / 'mylab').mkdir()
    (top / 'mylab' / '__init__.py').write_text('')
    for name, code in files:
        (top / name).write_text(code)
    known = {name for name in sys.modules if name.split('.')[0] == 'mylab'}
    for name in known:  # another test's package of the same name
        del sys.modules[name]
    sys.path.insert(0, str(top))
    yield top
    sys.path.remove(str(top))
    for name in [name for name in sys.modules if name.split('.')[0] == 'mylab']:
        del sys.modules[name]


def test_the_task_the_expert_and_the_agent_work_together(folder, tmp_path):
    shown, _, _ = collect.collect(demonstrators.scripted('mylab.point'), 40, seed=0)
    assert shown.info['env'] == 'mylab.point'
    episodes_lib.save(tmp_path / 'point.npz', shown)
    config = recipe_file.load(str(folder / 'mylab' / 'regression_point.py'))
    changes = [('data.path', str(tmp_path / 'point.npz')), ('loop.num_epochs', '30')]
    settings.override(
        config, [*changes, ('eval.num_episodes', '16'), ('loop.epochs_per_round', '10')]
    )
    assert launch.train(config, tmp_path / 'run', launch.Options())
    assert metrics.read(tmp_path / 'run')[-1]['eval/success_max'] > 0.9


def test_the_recipe_with_the_wrapper_is_a_run(folder):
    config = recipe_file.load(str(folder / 'mylab' / 'ppo_point.py'))
    settings.override(config, [('wrap', "(('mylab.wrappers.scale_reward', {'factor': 0.5}),)")])
    run = kinds.make_run(config)
    assert run.spec.obs.shape == (1,) and run.num_rounds == 4


def test_the_format_reads_what_it_says(folder, tmp_path):
    path = tmp_path / 'point.csv'
    path.write_text('episode,position,velocity\n0,0.5,-1\n0,0.4,-1\n1,-0.2,1\n')
    config = recipe_file.load(str(folder / 'mylab' / 'regression_point.py'))
    ((_, found),) = dataset.read(str(path), 'config.data.path', 'mylab.csv_format', config.env)
    assert found.episode_ends.tolist() == [2, 3]
    np.testing.assert_allclose(found.action[:, 0], [-1, -1, 1])
    path.write_text('episode,position,velocity\n0,nan,-1\n')
    with pytest.raises(ValueError, match='finite'):
        dataset.read(str(path), 'config.data.path', 'mylab.csv_format', config.env)
