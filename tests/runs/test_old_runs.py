"""Runs that were made before the modules moved to where they are: they open, evaluate, continue.

tests/old_runs/<run> has the config.json, the metrics.jsonl and the last checkpoint of a run of the
recipes configs/smoke/{bc,sac,ppo_recurrent}.py with 20 steps an episode, made at commit 979595c on
two CPU cores; pusht.npz there is what bc learnt from.
"""

import contextlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import checkpoint, metrics, spec_file, workdir
from jaxpolicy.runs import dataset, evaluation, kinds, launch, program, saved, sections

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'old_runs'
LAST = {'bc': 4, 'ppo_recurrent': 4, 'sac': 8}  # run: its last round
OPTIONS = launch.Options(num_devices=1)


@pytest.fixture(scope='module', params=sorted(LAST))
def name(request):
    return request.param


@pytest.fixture
def directory(name, tmp_path):
    """A copy of the run, with its demonstrations where its config says that they are."""
    directory = shutil.copytree(FOLDER / name, tmp_path / name)
    record = json.loads((directory / workdir.CONFIG_FILE).read_text())
    assert 'format' not in record, 'the file is of the first format'
    if name == 'bc':
        path = shutil.copy(FOLDER / 'pusht.npz', tmp_path / 'pusht.npz')
        record['config']['data']['path'] = str(path)
        (directory / workdir.CONFIG_FILE).write_text(json.dumps(record))
    return directory


def test_it_evaluates_as_it_did(name):
    """The numbers of its last evaluation, which are in its last row; it does not need its data."""
    run = saved.open_run(FOLDER / name, 'latest')
    assert run.step == LAST[name] and run.config.agent.name == name and run.num_seeds == 1
    evaluator = evaluation.make(run.config, agent=run.agent)
    found = evaluation.means(run.config, evaluator, run.train)
    (*_, last) = metrics.read(FOLDER / name)
    assert {'eval/return', 'eval/length', 'eval/success_max'} <= set(found)
    for metric, value in found.items():
        np.testing.assert_allclose(value, last[metric], rtol=1e-3, err_msg=metric)


def test_its_policy_acts(name):
    policy = saved.load_policy(FOLDER / name, num_robots=2)
    spec = saved.load_spec(FOLDER / name, saved.load_config(FOLDER / name))
    obs = jax.tree.map(lambda s: np.full((2, *s.shape), 0.5, s.dtype), spec.obs)
    _, action, _ = policy.act(policy.init(obs), obs, jax.random.key(0))
    assert action.shape == (2, *spec.action.shape) and np.isfinite(action).all()


def test_it_continues(name, directory):
    """It has all its rounds already, so nothing is learnt; nothing of it is lost."""
    config = saved.load_config(directory)
    before = (directory / workdir.CONFIG_FILE).read_bytes()
    rows = metrics.read(directory)
    assert launch.train(config, directory, OPTIONS)
    assert (directory / workdir.CONFIG_FILE).read_bytes() == before
    assert metrics.read(directory) == rows and len(rows) == LAST[name]
    assert [row['round'] for row in rows] == list(range(1, LAST[name] + 1))
    spec = spec_file.read(directory)  # from now on it describes itself
    assert spec == saved.load_spec(FOLDER / name, config)
    with pytest.raises(ValueError, match=r'\(seed\): 0 -> 1'):  # another run, as ever
        launch.train(config, directory, OPTIONS._replace(seed=1))


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def test_every_array_of_its_state_is_there(name, directory):
    run = kinds.make_run(saved.load_config(directory))
    template = program.of_run(run, seed=0, num_seeds=1, mesh=None).template
    path = directory / 'checkpoints'
    with contextlib.closing(checkpoint.open_manager(path, read_only=True)) as manager:
        state, meta = checkpoint.restore(manager, LAST[name], template)
    assert run.num_rounds == LAST[name] == meta['step'] == meta['rows']
    assert shapes(state) == shapes(template)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train))
    assert int(state.train.step) == metrics.read(directory)[-1]['updates']


def test_other_data_is_refused_by_what_an_old_run_knows_of_it(tmp_path):
    """Old runs know the checksum of the actions only."""
    run = saved.load_config(FOLDER / 'bc')
    episodes = episodes_lib.load(FOLDER / 'pusht.npz')
    meta = json.loads((FOLDER / 'bc' / 'checkpoints' / '4' / 'meta' / 'metadata').read_text())
    began_with = meta['meta']['data']
    assert run.data.format == 'episodes' and ', all' not in began_with
    sections.check_same(began_with, dataset.fingerprint(episodes))
    other = episodes._replace(action=-episodes.action)
    with pytest.raises(ValueError, match='data.path: expected the data that this run began with'):
        sections.check_same(began_with, dataset.fingerprint(other))
