"""Files of demonstrations: which are the same, which fit, and how several are one."""

import os
import re

import jax
import numpy as np
import pytest

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.loops import collect
from jaxpolicy.runs import dagger, dataset, demonstrators, imitate, kinds, recipe, sections

LINE = 'tests.commands.line'
LENGTH, NUM = 16, 4


def episodes(seed=0, **info):
    """Random episodes with rewards, of the line's shapes."""
    rng, rows = np.random.default_rng(seed), LENGTH * NUM
    return episodes_lib.Episodes(
        obs=rng.normal(size=(rows, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, size=(rows, 1)).astype(np.float32),
        episode_ends=np.arange(LENGTH, rows + 1, LENGTH),
        info=info,
        tags={'mark': np.ones(rows, np.uint8)},
        reward=rng.normal(size=rows).astype(np.float32),
        termination=np.zeros(rows, np.uint8),
        last_obs=rng.normal(size=(NUM, 2)).astype(np.float32),
    )


def configs(path):
    """A config of each kind of run that reads demonstrations."""
    found = {
        'offline': recipe.offline('bc', LINE, 'episodes', str(path)),
        'dagger': recipe.dagger('bc', LINE, 'episodes', str(path)),
        'offline_rl': recipe.offline_rl('iql', LINE, str(path)),
        'off_policy': recipe.off_policy('sac', LINE),
        'imitate': recipe.off_policy('sac', LINE),
    }
    for name in ('offline', 'dagger'):
        found[name].agent.width, found[name].agent.num_blocks = 8, 1
        found[name].loop.batch_size = 16
    found['off_policy'].data.path, found['off_policy'].loop.demo_share = str(path), 0.5
    found['imitate'].imitate.path = str(path)
    return found


KINDS = tuple(configs(''))
OTHER = {  # what may be another thing in two files
    'reward': lambda e: e._replace(reward=-e.reward),
    'obs': lambda e: e._replace(obs=-e.obs),
    'last_obs': lambda e: e._replace(last_obs=-e.last_obs),
    'tags': lambda e: e._replace(tags={'other': e.tags['mark']}),
    'info': lambda e: e._replace(info={'source': 'another robot'}),
    'dtype': lambda e: e._replace(obs=e.obs.view(np.uint8)),
    'shape': lambda e: e._replace(obs=e.obs.reshape(-1, 1, 2)),
    'parts': lambda e: e._replace(obs={'state': e.obs}),
}


@pytest.mark.parametrize('what', OTHER)
def test_a_fingerprint_covers_everything(what):
    one = episodes()
    began_with, found = dataset.fingerprint(one), dataset.fingerprint(OTHER[what](one))
    assert began_with == dataset.fingerprint(episodes())
    with pytest.raises(ValueError, match='data.path: expected the data that this run began with'):
        sections.check_same(began_with, found)


def test_older_fingerprints_are_compared_as_far_as_they_go():
    found = dataset.fingerprint(episodes())
    for began_with in (found.split(', all')[0], found.split(', whole')[0]):
        sections.check_same(began_with, found)
        with pytest.raises(ValueError, match='data.path'):
            sections.check_same(began_with + '0', found)
        sections.check_same(began_with, f'{found}, expert 12')
    with pytest.raises(ValueError, match='expert.workdir: expected the expert that this run began'):
        sections.check_same(f'{found}, expert 12', f'{found}, expert 34')


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_continues_on_its_own_data_alone(kind, tmp_path):
    """The same actions with other rewards, or other observations, are other data in every kind."""
    path = tmp_path / 'demos.npz'
    config = configs(path)[kind]
    episodes_lib.save(path, episodes())
    began_with = kinds.make_run(config).fingerprint
    assert kinds.make_run(config).fingerprint == began_with
    for what in ('reward', 'obs'):
        episodes_lib.save(path, OTHER[what](episodes()))
        found = kinds.make_run(config).fingerprint
        with pytest.raises(ValueError, match='that this run began with'):
            sections.check_same(began_with, found)


def test_the_weights_of_an_expert_are_part_of_a_run():
    weights = {'params': np.ones(3, np.float32)}
    mark = dagger.mark_of_expert(weights)
    assert mark == dagger.mark_of_expert({'params': jax.numpy.ones(3)})
    assert mark != dagger.mark_of_expert({'params': 2 * weights['params']})
    assert dagger.mark_of_expert(()) == ''  # a scripted expert has none


@pytest.mark.parametrize('kind', KINDS)
def test_several_files_are_one(kind, tmp_path, monkeypatch):
    for name, seed in (('a', 0), ('b', 1)):
        episodes_lib.save(tmp_path / f'{name}.npz', episodes(seed))
    monkeypatch.setenv('HOME', str(tmp_path))
    both = kinds.make_run(configs(f' {tmp_path / "a.npz"} , ~/b.npz')[kind]).fingerprint
    joined = episodes_lib.concatenate([episodes(0), episodes(1)])
    assert dataset.fingerprint(joined) in both and f'{2 * NUM} episodes' in both
    with pytest.raises(ValueError, match=r"path: expected a file of demonstrations, found '.*,'"):
        kinds.make_run(configs(f'{tmp_path / "a.npz"},')[kind])


def test_a_subset_is_of_all_files(tmp_path):
    for name, seed in (('a', 0), ('b', 1)):
        episodes_lib.save(tmp_path / f'{name}.npz', episodes(seed))
    config = configs(f'{tmp_path / "a.npz"},{tmp_path / "b.npz"}')['offline']
    config.data.num_episodes = 5
    joined = episodes_lib.concatenate([episodes(0), episodes(1)])
    found = dataset.load_episodes(config)
    np.testing.assert_array_equal(found.obs, episodes_lib.subset(joined, 5, 42).obs)


def test_episodes_of_several_files_are_numbered_through(tmp_path):
    for name, seed in (('a', 0), ('b', 1)):
        episodes_lib.save(tmp_path / f'{name}.npz', episodes(seed))
    group = configs(f'{tmp_path / "a.npz"},{tmp_path / "b.npz"}')['imitate'].imitate
    group.episode = NUM + 1
    shown, _ = imitate.demonstration(group, dataset.join(imitate.read(group)))
    np.testing.assert_array_equal(shown[:-1], episodes(1).obs[LENGTH : 2 * LENGTH])
    np.testing.assert_array_equal(shown[-1], episodes(1).last_obs[1])
    group.episode = 2 * NUM
    with pytest.raises(ValueError, match=f'imitate.episode: expected 0 to {2 * NUM - 1}'):
        imitate.demonstration(group, dataset.join(imitate.read(group)))


def test_what_files_say_is_joined():
    joined = episodes_lib.concatenate([episodes(0, a='x', b=1), episodes(1, a='x', b=2, c='z')])
    assert joined.info == {'a': 'x', 'b': '1; 2', 'c': 'z'}


FOREIGN = [
    ({'env': 'cartpole'}, "its episodes are of 'cartpole', this run is of 'tests.commands.line'"),
    ({'env': LINE, 'wrap': '["scale"]'}, 'its episodes have wrap ["scale"], this run has wrap []'),
    ({'env': LINE, 'rewards': 'of others'}, 'have rewards of others, this run has rewards of the'),
]


@pytest.mark.parametrize('info', range(len(FOREIGN)))
@pytest.mark.parametrize('kind', KINDS)
def test_rewards_of_another_env_are_refused_and_the_rest_is_said(kind, info, tmp_path, capsys):
    """In the second of two files, as well as in the first."""
    info, words = FOREIGN[info]
    for name, one in (('a', episodes()), ('b', episodes(1, **info))):
        episodes_lib.save(tmp_path / f'{name}.npz', one)
    config = configs(f'{tmp_path / "a.npz"},{tmp_path / "b.npz"}')[kind]
    learns_rewards = kind in ('offline_rl', 'off_policy')
    if learns_rewards:
        with pytest.raises(ValueError, match=re.escape(words)):
            kinds.make_run(config)
        assert not capsys.readouterr().err
        config.data.other_rewards = True
    kinds.make_run(config)
    err = capsys.readouterr().err.splitlines()
    if 'rewards' in info and not learns_rewards:
        assert not err
    else:
        assert len(err) == 1 and words in err[0] and 'b.npz: ' in err[0]


def test_fields_are_compared_by_their_values():
    ours = {'env': 'reach', 'env_fields': '{"goal": [0.5, 0.0], "reward": "dense", "flag": true}'}

    def doubts(override):
        return dataset.doubts(ours, {'env': 'jaxpolicy.envs.tasks.reach', 'override': override})

    assert doubts('env.goal=0.5,0.0 env.flag=true disturb.obs_noise=1') == []
    ((text, is_of_reward),) = doubts('env.reward=sparse')
    assert is_of_reward and 'have env.reward=sparse, this run has env.reward=dense' in text
    assert [is_of_reward for _, is_of_reward in doubts('env.goal=1,0')] == [False]
    assert dataset.doubts(ours, {}) == dataset.doubts({}, {'env': 'reach'}) == []
    older = {**ours, 'jaxpolicy': '0.0.1'}
    ((text, _),) = dataset.doubts({**ours, 'jaxpolicy': '0.1.0'}, older)
    assert 'made by jaxpolicy 0.0.1, this is 0.1.0' in text


def test_collected_files_say_all_of_their_environment():
    """Also what differs from the task's defaults in the run that demonstrates."""
    who = demonstrators.scripted(LINE, ['env.speed=0.2'])
    assert isinstance(who, collect.Demonstrator) and who.info['env'] == LINE
    config = recipe.offline('bc', LINE, 'episodes', '')
    ((text, _),) = dataset.doubts(dataset.about(config), who.info)
    assert text == 'its episodes have env.speed=0.2, this run has env.speed=0.3'
    config.env.speed = 0.2
    assert dataset.doubts(dataset.about(config), who.info) == []


def test_a_relative_path_that_is_not_there_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    episodes_lib.save('demos.npz', episodes())
    config = configs('demos.npz')['offline']
    began_with = dataset.fingerprint(dataset.load_episodes(config))
    os.mkdir('other')
    monkeypatch.chdir('other')
    with pytest.raises(ValueError, match=f'found none from the folder {tmp_path}/other'):
        dataset.load_episodes(config)
    episodes_lib.save('demos.npz', episodes(1))  # another file of this name
    with pytest.raises(ValueError, match='data.path: expected the data that this run began with'):
        sections.check_same(began_with, dataset.fingerprint(dataset.load_episodes(config)))
