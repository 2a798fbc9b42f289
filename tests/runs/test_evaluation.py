"""What evaluations become when they are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cartpole import dqn as cartpole_dqn
from jaxpolicy.io import recipe_file, settings, summary
from jaxpolicy.ops import intervals
from jaxpolicy.runs import environment, evaluation, sections


def test_one_seed_is_written_as_it_is():
    row = {'eval/return': np.float32(2.5), 'time/train_s': 3.0}
    assert summary.over_seeds(row) == {'eval/return': 2.5, 'time/train_s': 3.0}


def test_several_seeds_are_written_with_mean_interval_and_their_own_numbers():
    values = np.array([1.0, 2.0, 6.0])
    row = summary.over_seeds({'eval/return': values, 'train/kl': values})
    mean, low, high = intervals.confidence_interval(values, 'real')
    assert row['eval/return'] == mean == 3.0
    assert (row['eval/return_low'], row['eval/return_high']) == (low, high)
    assert [row[f'seed{i}/eval/return'] for i in range(3)] == [1.0, 2.0, 6.0]
    assert row['train/kl_high'] == high and 'seed0/train/kl' not in row


def test_a_seed_that_diverged_does_not_stop_the_others():
    row = summary.over_seeds({'eval/return': np.array([1.0, np.nan])})
    assert np.isnan(row['eval/return']) and np.isnan(row['eval/return_low'])
    assert row['seed0/eval/return'] == 1.0


def test_unknown_modes_are_refused():

    config = recipe_file.load('configs/smoke/ppo.py')
    settings.override(config, [('eval.modes', 'greedy,stochastic')])
    with pytest.raises(ValueError, match="eval.modes: expected one of .*found \\('greedy'"):
        evaluation.make(config)


def test_choices_are_no_numbers():
    config = cartpole_dqn.get_config()
    choices = environment.make_env(config).spec
    numbers = choices._replace(action=jax.ShapeDtypeStruct(choices.action.shape, jnp.float32))
    sections.check_fit(config, choices, choices)
    with pytest.raises(ValueError, match=r'env\.name: expected continuous .* found choices'):
        sections.check_fit(config, numbers, choices)
    with pytest.raises(ValueError, match=r'env\.name: expected choices, .* found continuous'):
        sections.check_fit(config, choices, numbers)
