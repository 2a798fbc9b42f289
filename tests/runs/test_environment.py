"""Wrappers that only training has."""

import pytest

from jaxpolicy.runs import environment, evaluation, kinds, recipe
from jaxpolicy.types import Env

_WRAPPED = []  # the arguments of every call of `noted`


def noted(env: Env, word: str = '') -> Env:
    _WRAPPED.append(word)
    return env


def _config(kind, task='pendulum'):
    make, agent = {
        'on_policy': (recipe.on_policy, 'ppo'),
        'off_policy': (recipe.off_policy, 'sac'),
    }[kind]
    config = make(agent, task)
    config.agent.hidden = (4,)
    return config


@pytest.mark.parametrize('kind', ['on_policy', 'off_policy'])
def test_training_alone_has_the_wrappers_of_the_loop(kind):
    config, name = _config(kind), f'{__name__}.noted'
    config.wrap, config.loop.wrap = ((name, {'word': 'all'}),), ((name, {'word': 'training'}),)
    _WRAPPED.clear()
    kinds.make_run(config)
    assert _WRAPPED == ['all', 'training']  # the others are inside
    _WRAPPED.clear()
    evaluation.make(config)
    assert _WRAPPED == ['all']


def test_a_mistake_in_them_names_their_key():
    config = _config('on_policy')
    config.loop.wrap = ('nobody.knows.this',)
    with pytest.raises(ValueError, match='config.loop.wrap: expected a name that can be imported'):
        kinds.make_run(config)
    config.loop.wrap = ((f'{__name__}.noted', {'letter': 'a'}),)
    with pytest.raises(
        ValueError, match="config.loop.wrap: .*unexpected keyword argument 'letter'"
    ):
        environment.make_env(config, training=True)


def test_hindsight_knows_no_rewards_of_theirs():
    config = _config('off_policy', 'reach')
    config.env.reward, config.loop.hindsight_share = 'sparse', 0.5
    config.loop.wrap = (f'{__name__}.noted',)
    with pytest.raises(
        ValueError, match='config.loop.wrap: expected none with loop.hindsight_share'
    ):
        kinds.make_run(config)
